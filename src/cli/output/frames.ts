// Docker's multiplexed streams: output and errors of a container on one connection.

import { CliError } from '../command.ts'

const HEADER_BYTES = 8
export const STDERR = 2

/**
 * A header of 8 bytes, then one line or what was written at once.
 * @throws {CliError} what the daemon says in the middle
 */
export async function* frames(
  body: AsyncIterable<unknown>,
): AsyncGenerator<{ readonly stream: number; readonly line: Buffer }> {
  let buffer: Buffer = Buffer.alloc(0)
  for await (const chunk of body) {
    buffer = buffer.length === 0 ? (chunk as Buffer) : Buffer.concat([buffer, chunk as Buffer])
    while (buffer.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + buffer.readUInt32BE(4)
      if (buffer.length < end) break
      const stream = buffer[0]!
      const line = buffer.subarray(HEADER_BYTES, end)
      buffer = buffer.subarray(end)
      if (stream > STDERR) throw new CliError(line.toString())
      yield { stream, line }
    }
  }
}
