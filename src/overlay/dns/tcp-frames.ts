// DNS over TCP (RFC 7766): messages behind their length, two bytes.

const LENGTH_BYTES = 2

/** Collects a stream's bytes into messages. Holds at most one message that is not complete, of 64 KiB. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0)

  /** The messages that `bytes` completes. */
  push(bytes: Buffer): readonly Buffer[] {
    let rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    const messages: Buffer[] = []
    while (rest.length >= LENGTH_BYTES) {
      const end = LENGTH_BYTES + rest.readUInt16BE(0)
      if (rest.length < end) break
      messages.push(rest.subarray(LENGTH_BYTES, end))
      rest = rest.subarray(end)
    }
    this.#rest = rest
    return messages
  }
}

export function frame(message: Buffer): Buffer {
  const out = Buffer.allocUnsafe(LENGTH_BYTES + message.length)
  out.writeUInt16BE(message.length, 0)
  message.copy(out, LENGTH_BYTES)
  return out
}
