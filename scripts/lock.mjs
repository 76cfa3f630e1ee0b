// npm runs this after it changed node_modules. A native package names one package for each platform;
// where a registry lacks one of them, npm leaves it out of the lock file, and `npm ci` then refuses
// the whole lock file. So what npm left out is written in: nothing is fetched for another platform.
import { readFileSync, writeFileSync } from "node:fs";

const path = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(path, "utf8"));
const packages = lock.packages;

const platform = /-(darwin|linux|win32|freebsd|openbsd|netbsd|android)-(\w+)$/;

function isLocked(folder, name) {
  for (let at = folder;; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    if (packages[`${at}/node_modules/${name}`.replace(/^\//, "")] !== undefined) return true;
    if (at === "") return false;
  }
}

let added = 0;
for (const [folder, entry] of Object.entries(packages)) {
  if (folder === "") continue;
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const [, os, cpu] = platform.exec(name) ?? [];
    if (os === undefined || isLocked(folder, name)) continue;
    packages[`node_modules/${name}`] = {
      version,
      // A name such as "darwin-universal" holds for every processor.
      ...(cpu === "universal" ? {} : { cpu: [cpu] }),
      ...(entry.dev ? { dev: true } : {}),
      optional: true,
      os: [os],
    };
    added++;
  }
}
if (added > 0) {
  const byPath = ([a], [b]) => a.localeCompare(b, "en");
  lock.packages = Object.fromEntries(Object.entries(packages).sort(byPath));
  writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
  console.log(`package-lock.json: wrote in ${added} packages for other platforms`);
}
