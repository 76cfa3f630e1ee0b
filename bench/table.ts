/** A plain table: the first column to the left, the others, which are numbers mostly, to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => {
    return Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0));
  });
  const line = (cells: readonly string[]) =>
    cells.map((cell, column) => {
      const width = widths[column] as number;
      return column === 0 ? cell.padEnd(width) : cell.padStart(width);
    }).join("  ");
  const rule = widths.map((width) => "─".repeat(width)).join("  ");
  return ["", line(head), rule, ...rows.map(line), ""].join("\n");
}

/** A number without its fraction, its thousands set apart. */
export function whole(value: number): string {
  return Math.round(value).toLocaleString("en");
}
