import { TransportError } from "../../../src/base/errors.ts";
import type { CloseInfo } from "../../../src/transport/contract.ts";
import type { QuicheHandle } from "./binding.ts";

/** Longest reason of a close, bytes. */
const MAX_REASON_BYTES = 255;
/** CONNECTION_REFUSED (RFC 9000 §20.1). */
const REFUSED = 0x2;
/** The alerts of TLS as codes of QUIC (RFC 9001 §4.8). */
const CRYPTO_ERROR = 0x100;
const CRYPTO_ERROR_END = 0x200;

/** The bytes of a close's reason, cut between characters. */
export function reasonBytes(reason: string): Uint8Array {
  const bytes = new Uint8Array(MAX_REASON_BYTES);
  return bytes.subarray(0, new TextEncoder().encodeInto(reason, bytes).written);
}

/** How a connection that this end did not close has ended. */
export function endInfo(handle: QuicheHandle): CloseInfo {
  const error = handle.peerError();
  if (error === null) {
    const reason = handle.isTimedOut() ? "idle timeout" : "connection error";
    return { code: 0, reason, by: "lost" };
  }
  const reason = new TextDecoder().decode(error.reason.subarray(0, MAX_REASON_BYTES));
  return error.isApp
    ? { code: error.errorCode, reason, by: "peer" }
    : { code: 0, reason: reason || `transport error ${error.errorCode}`, by: "lost" };
}

/** Why a connection that ended before it was established could not be. */
export function failureOf(handle: QuicheHandle, info: CloseInfo, address: string): TransportError {
  if (info.by === "local") return new TransportError("aborted", info.reason);
  const error = handle.peerError() ?? handle.localError();
  if (error !== null && !error.isApp) {
    if (error.errorCode === REFUSED) {
      return new TransportError("refused", `${address} takes no further connections`);
    }
    if (error.errorCode >= CRYPTO_ERROR && error.errorCode < CRYPTO_ERROR_END) {
      const alert = error.errorCode - CRYPTO_ERROR;
      return new TransportError("tls", `no TLS with ${address}: alert ${alert}`);
    }
  }
  const reason = info.by === "lost" ? "unreachable" : "refused";
  return new TransportError(reason, `cannot reach ${address}: ${info.reason}`);
}
