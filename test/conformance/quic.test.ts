import { runtime } from "../harness.ts";
import { conformance } from "./suite.ts";
import { quicUnderTest } from "./world.ts";

conformance({
  name: `quic on ${runtime}`,
  create: quicUnderTest,
  addresses: ["quic://127.0.0.1:0", "quic://[::1]:0"],
  deadAddress: "quic://127.0.0.1:9",
  showsCertificate: runtime !== "deno",
  freesPorts: runtime !== "deno",
});
