// The engine's multiplexed log stream: 8 bytes of header (stream, three zeros, length) and a line. Lines arrive with the
// engine's timestamp in front; they leave with what the client asked for in front.

export const STREAM = { stdout: 1, stderr: 2, systemError: 3 } as const

const HEADER_BYTES = 8
const MAX_FRAME_BYTES = 16 * 1024 * 1024

export interface Frame {
  readonly stream: number
  readonly payload: Buffer
}

export function encodeFrame(stream: number, payload: Uint8Array): Buffer {
  const frame = Buffer.alloc(HEADER_BYTES + payload.length)
  frame[0] = stream
  frame.writeUInt32BE(payload.length, 4)
  frame.set(payload, HEADER_BYTES)
  return frame
}

/** Cuts a byte stream into frames, wherever its chunks begin and end. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0)

  /** @returns the frames that are complete now; undefined where the bytes are no such stream */
  push(chunk: Uint8Array): readonly Frame[] | undefined {
    let bytes: Buffer = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk])
    const frames: Frame[] = []
    while (bytes.length >= HEADER_BYTES) {
      const size = bytes.readUInt32BE(4)
      if (size > MAX_FRAME_BYTES || bytes[1] !== 0 || bytes[2] !== 0 || bytes[3] !== 0) return undefined
      if (bytes.length < HEADER_BYTES + size) break
      frames.push({ stream: bytes[0] ?? 0, payload: bytes.subarray(HEADER_BYTES, HEADER_BYTES + size) })
      bytes = bytes.subarray(HEADER_BYTES + size)
    }
    this.#rest = bytes
    return frames
  }
}

export interface LineStyle {
  readonly timestamps: boolean
  /** `key=value,…` for `details`; undefined: not asked for */
  readonly details: string | undefined
}

/** A line with the engine's timestamp in front → timestamp, details, line, as asked. */
export function styleLine(payload: Buffer, style: LineStyle): Buffer {
  const space = payload.indexOf(0x20)
  const timestamp = space < 0 ? '' : payload.subarray(0, space).toString('latin1')
  const stamped = /^\d{4}-\d\d-\d\dT/.test(timestamp)
  const line = stamped ? payload.subarray(space + 1) : payload
  const prefix = `${style.timestamps && stamped ? `${timestamp} ` : ''}${style.details === undefined ? '' : `${style.details} `}`
  return Buffer.concat([Buffer.from(prefix, 'utf8'), line])
}

/** Keys and values as Go's url.QueryEscape writes them, sorted by key. */
export function encodeDetails(details: Readonly<Record<string, string>>): string {
  const queryEscape = (text: string) =>
    encodeURIComponent(text)
      .replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
      .replace(/%20/g, '+')
  return Object.keys(details)
    .sort()
    .map((key) => `${queryEscape(key)}=${queryEscape(details[key] ?? '')}`)
    .join(',')
}
