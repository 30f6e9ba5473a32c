// Two ends within a process: all bytes in order, what was written in one turn as one, and a writer that waits for its reader.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import t from 'tap'
import { duplexPair } from '../../src/lib/duplex-pair.ts'

async function read(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(stream, 'end')
  return Buffer.concat(chunks)
}

t.test('bytes go both ways, and each half ends alone', async (t) => {
  const [one, other] = duplexPair()
  const [there, back] = [randomBytes(3_000_000), randomBytes(2_000_001)]
  one.end(there)
  t.ok((await read(other)).equals(there))
  other.end(back)
  t.ok((await read(one)).equals(back))
})

t.test('what is written in one turn arrives as one', async (t) => {
  const [one, other] = duplexPair()
  one.cork()
  for (const part of ['8\r\n', 'contents', '\r\n']) one.write(part)
  one.uncork()
  const [chunk] = (await once(other, 'data')) as [Buffer]
  t.equal(String(chunk), '8\r\ncontents\r\n')
})

t.test('a reader that does not read stops the writer; an end that is gone takes what is left', async (t) => {
  const [one, other] = duplexPair()
  let written = 0
  while (one.write(randomBytes(64 * 1024), () => written++));
  await new Promise((resolve) => setImmediate(resolve))
  const before = written
  one.write(randomBytes(64 * 1024), () => written++)
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(written, before, 'it waits')
  other.destroy()
  one.end()
  await once(one, 'finish')
  t.ok(written > before)
})

t.test('an end that is destroyed ends what the other reads', async (t) => {
  const [one, other] = duplexPair()
  one.write('last')
  one.destroy()
  t.equal(String(await read(other)), 'last')
})
