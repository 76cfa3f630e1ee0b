import { readdirSync } from "node:fs";
import { root } from "./command.ts";

/** The files under `folder` of the repository that end in `ending`, relative to it, sorted. */
export function filesUnder(folder: string, ending: string): string[] {
  let found: string[];
  try {
    found = readdirSync(`${root}${folder}`, { recursive: true, encoding: "utf8" });
  } catch {
    return [];
  }
  return found.filter((path) => path.endsWith(ending)).map((path) => `${folder}/${path}`).sort();
}
