// A body of JSON lines, line by line; ends with the body's own error when it breaks.

import type { Readable } from 'node:stream'
import { CodedError } from '../../lib/errors.ts'

const LINE_CHARS_MAX = 1024 * 1024

/** @throws {CodedError} LINE_TOO_LONG, or what the stream fails with. */
export async function* lines(body: Readable): AsyncIterable<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    rest += decoder.decode(chunk as Uint8Array, { stream: true })
    const complete = rest.split('\n')
    rest = complete.pop() ?? ''
    for (const line of complete) if (line.trim() !== '') yield line
    if (rest.length > LINE_CHARS_MAX) throw new CodedError('LINE_TOO_LONG', 'the engine sent a line without an end')
  }
  if (rest.trim() !== '') yield rest
}
