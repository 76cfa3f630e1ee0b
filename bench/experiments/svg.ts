import type { Plot } from "./experiment.ts";

const WIDTH = 640, HEIGHT = 400, LEFT = 64, RIGHT = 24, TOP = 40, BOTTOM = 56, LINE = 16;
/** Of longer curves the points are not marked. */
const DOTS = 60;
const COLOURS = ["#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#bf8700", "#57606a"];

/** The plot as an SVG document. */
export function svgOf(plot: Plot): string {
  const points = plot.series.flatMap((series) => series.points);
  const [x0, x1] = range(points.map(([x]) => x));
  const [y0, y1] = range(points.map(([, y]) => y));
  const px = (x: number) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (y: number) => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const at = (value: number) => value.toFixed(1);
  // The names of the curves are below, where no curve runs through them.
  const height = HEIGHT + LINE * plot.series.length;
  const lines: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `<text x="${LEFT}" y="22" font-size="15">${escape(plot.title)}</text>`,
  ];
  for (let i = 0; i <= 5; i++) {
    const x = x0 + ((x1 - x0) * i) / 5, y = y0 + ((y1 - y0) * i) / 5;
    lines.push(
      `<path d="M${LEFT} ${at(py(y))}H${WIDTH - RIGHT}" stroke="#d0d7de"/>`,
      `<text x="${LEFT - 6}" y="${at(py(y) + 4)}" text-anchor="end">${tick(y)}</text>`,
      `<text x="${at(px(x))}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${tick(x)}</text>`,
    );
  }
  lines.push(
    `<text x="${WIDTH / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escape(plot.x)}</text>`,
    `<text x="14" y="${HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 ${HEIGHT / 2})">${
      escape(plot.y)
    }</text>`,
  );
  plot.series.forEach((series, i) => {
    const colour = COLOURS[i % COLOURS.length] as string;
    const path = series.points.map(([x, y]) => `${at(px(x))},${at(py(y))}`).join(" ");
    lines.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const [x, y] of series.points.length <= DOTS ? series.points : []) {
      lines.push(`<circle cx="${at(px(x))}" cy="${at(py(y))}" r="3" fill="${colour}"/>`);
    }
    const y = HEIGHT + LINE * (i + 0.5);
    lines.push(
      `<rect x="${LEFT + 10}" y="${y - 9}" width="10" height="10" fill="${colour}"/>`,
      `<text x="${LEFT + 26}" y="${y}">${escape(series.name)}</text>`,
    );
  });
  lines.push("</svg>", "");
  return lines.join("\n");
}

function range(values: readonly number[]): [number, number] {
  if (values.length === 0) return [0, 1];
  const low = Math.min(...values), high = Math.max(...values);
  // A level line is drawn beside zero.
  return low === high ? [Math.min(low, 0), Math.max(high, 0) || 1] : [low, high];
}

const tick = (value: number) => String(Number(value.toPrecision(4)));
const escape = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
