/**
 * Who may import whom. `deno info` sees every edge of the module graph, type-only and dynamic
 * imports too.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { bin, root, run } from "../lib/command.ts";
import { filesUnder } from "../lib/files.ts";
import type { Verdict } from "../lib/tasks.ts";

/** The rooms of `src`, lowest floor first: a room imports from lower floors only. */
const FLOORS: readonly (readonly string[])[] = [
  ["base"],
  ["wire", "crdt", "metrics"],
  ["identity", "transport", "storage", "discovery"],
  ["link"],
  ["membership", "broadcast"],
  ["replica"],
  ["roster"],
  ["actor"],
  ["registry", "leader", "placement", "reminder", "map", "stream"],
  ["node"],
  ["ops", "testing", "cli"],
];

/** What `adapters/` may import of `src`. */
const OPEN_TO_ADAPTERS = /^src\/(base\/|transport\/|identity\/certificate[^/]*\.ts$)/;

interface Edge {
  readonly from: string;
  readonly to: string;
  readonly isDynamic: boolean;
}

interface Info {
  readonly modules: readonly {
    readonly specifier: string;
    readonly error?: string;
    readonly dependencies?: readonly {
      readonly code?: { readonly specifier?: string };
      readonly type?: { readonly specifier?: string };
      readonly isDynamic?: boolean;
    }[];
  }[];
}

/** Checks the layers of `src`, `adapters` and `mod.ts`. */
export async function checkLayers(): Promise<Verdict> {
  const files = ["mod.ts", ...filesUnder("src", ".ts"), ...filesUnder("adapters", ".ts")];
  const edges = await imports(files);
  if (typeof edges === "string") return { ok: false, output: edges };
  if (edges.length === 0) return { ok: false, output: "no import seen at all" };
  const wrong = edges.flatMap((edge) => {
    const why = refusal(edge);
    return why === undefined ? [] : [`${edge.from} imports ${edge.to}: ${why}`];
  });
  return { ok: wrong.length === 0, note: `${edges.length} imports`, output: wrong.join("\n") };
}

function refusal({ from, to, isDynamic }: Edge): string | undefined {
  if (from.startsWith("adapters/")) {
    if (OPEN_TO_ADAPTERS.test(to) || folder(to) === folder(from)) return undefined;
    return "an adapter sees base, transport, the certificate and itself";
  }
  if (to.startsWith("adapters/")) {
    if (isDynamic && (from === "mod.ts" || room(from) === "node")) return undefined;
    return "adapters are loaded by mod.ts or src/node, with import()";
  }
  if (!to.startsWith("src/")) return "the package imports nothing of the rest of the repository";
  if (from === "mod.ts") return undefined;
  const [above, below] = [floor(from), floor(to)];
  if (above === -1) return `src/${room(from)} has no floor`;
  if (below === -1) return `src/${room(to)} has no floor`;
  if (room(from) === room(to) || below < above) return undefined;
  return below === above ? "rooms of one floor are strangers" : "that floor is above";
}

const room = (path: string) => path.split("/")[1] ?? "";
const folder = (path: string) => path.split("/").slice(0, 2).join("/");
const floor = (path: string) => FLOORS.findIndex((rooms) => rooms.includes(room(path)));

// One entry that imports every file, because `deno info` takes one root.
async function imports(files: readonly string[]): Promise<Edge[] | string> {
  const temporary = mkdtempSync(join(tmpdir(), "barrel-layers-"));
  const entry = join(temporary, "all.ts");
  try {
    const lines = files.map((path) => `import ${JSON.stringify(pathToFileURL(root + path))};\n`);
    writeFileSync(entry, lines.join(""));
    const args = ["info", "--json", "--no-lock", "--config", `${root}deno.json`, entry];
    const finished = await run(bin("deno"), args);
    if (!finished.ok) return finished.output;
    const info = JSON.parse(finished.stdout) as Info;
    return info.modules.flatMap(({ specifier, dependencies = [] }) => {
      const from = inside(specifier);
      if (from === undefined) return [];
      return dependencies.flatMap(({ code, type, isDynamic = false }) => {
        const to = inside(code?.specifier ?? type?.specifier ?? "");
        return to === undefined ? [] : [{ from, to, isDynamic }];
      });
    });
  } finally {
    rmSync(temporary, { recursive: true });
  }
}

function inside(specifier: string): string | undefined {
  if (!specifier.startsWith("file:")) return undefined;
  const path = fileURLToPath(specifier);
  if (!path.startsWith(root) || path.startsWith(`${root}node_modules/`)) return undefined;
  return path.slice(root.length);
}
