/** All experiments in order. To add one: write an {@link Experiment} and name it here. */
import {
  broadcastAfterMassFailure,
  irohSetup,
  manySenders,
  singleSender,
  steadyFailures,
} from "./broadcasts.ts";
import type { Experiment } from "./experiment.ts";
import { healing, massFailure, messageByMessage, restingOverlay } from "./failures.ts";
import { crashDetection, restarts, stallsAndLoss } from "./liveness.ts";
import { churn, floods, joinStorm, slowConsumer } from "./load.ts";
import { lookUps } from "./look_ups.ts";
import { models, oneClockOff } from "./state_maps.ts";
import { lateJoin, stateHeals } from "./state_rows.ts";

/** All experiments. */
export const experiments: readonly Experiment[] = [
  restingOverlay,
  massFailure,
  messageByMessage,
  healing,
  manySenders,
  singleSender,
  steadyFailures,
  broadcastAfterMassFailure,
  irohSetup,
  churn,
  joinStorm,
  stateHeals,
  lookUps,
  lateJoin,
  crashDetection,
  stallsAndLoss,
  restarts,
  floods,
  slowConsumer,
  oneClockOff,
  models,
];
