/** The application protocol of every Barrel QUIC connection (RFC 7301). */
export const ALPN = "barrel/1";
