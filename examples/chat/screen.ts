import process from "node:process";
import { clearLine, createInterface, cursorTo } from "node:readline";

/** Where the conversation is shown and typed. */
export interface Screen {
  /** Something that somebody said. */
  said(at: number, nick: string, text: string, isOwn: boolean): void;
  /** Something that happened. */
  note(text: string): void;
  /** Text as it is. */
  print(text: string): void;
  /** What stands before the line that is typed. */
  prompt(label: string): void;
  close(): void;
}

/** What stands below the time and the name where a line goes on. */
const INDENT = " ".repeat(18);
const NAMES = [36, 32, 33, 35, 34, 96, 92, 93, 95, 94];

/** Opens the terminal; without one, lines are read and written plainly. */
export function openScreen(options: {
  /** A line was entered. */
  readonly onLine: (line: string) => void;
  /** Ctrl-C, Ctrl-D, or the end of the input. */
  readonly onEnd: () => void;
  /** What the word before the cursor may become. */
  readonly complete: (word: string) => readonly string[];
}): Screen {
  const { stdin, stdout } = process;
  const isTerminal = stdin.isTTY === true && stdout.isTTY === true;
  const paint = (code: number | string, text: string) =>
    isTerminal ? `\u001b[${code}m${text}\u001b[0m` : text;
  const lines = createInterface({
    input: stdin,
    ...(isTerminal ? { output: stdout } : {}),
    terminal: isTerminal,
    completer: (line: string) => {
      const word = /\S*$/.exec(line)?.[0] ?? "";
      return [[...options.complete(word)], word];
    },
  });
  let label = "";

  // Above the line that is being typed, which stays as it is.
  const print = (text: string) => {
    if (!isTerminal) return void stdout.write(`${text}\n`);
    clearLine(stdout, 0);
    cursorTo(stdout, 0);
    stdout.write(`${text}\n`);
    lines.prompt(true);
  };
  const colour = (nick: string) => {
    let sum = 0;
    for (const character of nick) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 9_973;
    return NAMES[sum % NAMES.length] as number;
  };
  const time = (at: number) => new Date(at).toTimeString().slice(0, 5);

  let isOver = false;
  const end = () => {
    if (!isOver) options.onEnd();
  };
  lines.on("line", (line) => {
    if (isTerminal) {
      // What was typed shows again as what was said.
      const rows = Math.ceil((label.length + 3 + line.length) / (stdout.columns || 80));
      for (let row = 0; row < Math.max(1, rows); row++) {
        stdout.write("\u001b[1A");
        clearLine(stdout, 0);
      }
      lines.prompt();
    }
    options.onLine(plain(line).trim());
  });
  lines.on("SIGINT", end);
  lines.on("close", end);

  return {
    print,
    note: (text) => print(paint(2, `      ${plain(text)}`)),
    said(at, nick, text, isOwn) {
      const name = paint(isOwn ? "1" : colour(nick), plain(nick).padStart(10));
      const width = (isTerminal ? stdout.columns || 80 : Infinity) - INDENT.length;
      print(`${paint(2, time(at))} ${name}  ${wrap(plain(text), width).join(`\n${INDENT}`)}`);
    },
    prompt(text) {
      label = text;
      lines.setPrompt(paint(2, `${label} › `));
      if (isTerminal) lines.prompt(true);
    },
    close() {
      isOver = true;
      lines.close();
      if (isTerminal) stdout.write("\n");
    },
  };
}

/** Lines of at most `width` characters, broken between words where there are some. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width && width > 10) {
    const space = rest.lastIndexOf(" ", width);
    const end = space > 0 ? space : width;
    lines.push(rest.slice(0, end));
    rest = rest.slice(end).trimStart();
  }
  return [...lines, rest];
}

/** Without what a terminal would obey: others' words only show. */
function plain(text: string): string {
  // oxlint-disable-next-line no-control-regex -- that is what it is for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "");
}
