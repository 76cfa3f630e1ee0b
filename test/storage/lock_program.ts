/** Holds the lock of a folder until it is killed: `lock_program.ts FOLDER`. */
import process from "node:process";
import { lockFolder } from "../../src/storage/lock.ts";

await lockFolder(process.argv[2] as string).then(
  () => console.log("locked"),
  (error: Error) => console.log(`refused ${error.message}`),
);
setInterval(() => {}, 60_000);
