/**
 * A map is a presence map for all or for none: where nodes open it differently there are two that do
 * not know of each other. What the others hold passes through here all the same, and tells.
 */
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { Meter } from "../metrics/meter.ts";
import type { Replication } from "../replica/driver.ts";
import { sharedName } from "../replica/store_kind.ts";

/** What {@link watchOtherKind} needs of the node. */
export interface KindContext {
  readonly replication: Pick<Replication, "watch">;
  readonly logger: Logger;
  readonly meter: Meter;
}

/** Says so, once, and counts when others write to the same name opened as the other kind. */
export function watchOtherKind(
  use: "map" | "merged",
  name: string,
  isEphemeral: boolean,
  { replication, logger, meter }: KindContext,
): void {
  const once = logOnce(logger, 1);
  replication.watch(sharedName(isEphemeral ? "kept" : "live", use, name), () => {
    meter.count("barrel_map_other_kind_total", { map: name });
    once(
      "other_kind",
      "warn",
      `${name} is open here ${isEphemeral ? "with" : "without"} ephemeral, and elsewhere ` +
        `${isEphemeral ? "without" : "with"}: neither sees what the other writes`,
      { map: name },
    );
  });
}
