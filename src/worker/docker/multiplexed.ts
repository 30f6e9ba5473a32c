// The engine's frames of a log stream: one byte for the stream (1 stdout, 2 stderr), three zeros, a length.

/** Raw output (of a tty) as one stdout frame. */
export function asMultiplexed(bytes: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(8 + bytes.length)
  frame.writeUInt8(1, 0)
  frame.writeUInt32BE(bytes.length, 4)
  frame.set(bytes, 8)
  return frame
}
