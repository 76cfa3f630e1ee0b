// Plain JavaScript, so that an old Node gets far enough to say what is wrong in one line.
import process from "node:process";

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `Node ${process.versions.node} is too old, 22.18 or newer is needed. \`npm ci\` brings one, ` +
      "unless npm was told to run no install scripts.",
  );
  process.exit(1);
}
