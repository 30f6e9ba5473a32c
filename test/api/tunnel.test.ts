// A tunnel's two ends, joined frame by frame.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import t from 'tap'
import type { StreamFrame } from '../../src/api/dispatcher.ts'
import { TUNNEL_CREDIT_BYTES, Tunnel } from '../../src/api/tunnel.ts'
import { CodedError } from '../../src/lib/errors.ts'

/** Two tunnels; frames arrive a moment after they were sent. */
function joined() {
  let isClosed = false
  const sent = { one: 0, two: 0 }
  const ends: { one?: Tunnel; two?: Tunnel } = {}
  const connection = (from: 'one' | 'two', to: 'one' | 'two') => ({
    send: (frame: StreamFrame) => {
      if (isClosed) throw new CodedError('CONNECTION_CLOSED', 'closed')
      if (frame.kind === 'data') sent[from] += frame.data.byteLength
      setImmediate(() => ends[to]?.receive(frame))
    },
    close: () => {
      setImmediate(() => {
        isClosed = true
        ends[to]?.lost()
      })
    },
  })
  const one = new Tunnel(connection('one', 'two'))
  ends.one = one
  const two = new Tunnel(connection('two', 'one'))
  ends.two = two
  return { one, two, sent }
}

async function read(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(stream, 'end')
  return Buffer.concat(chunks)
}

t.test('bytes go both ways at once, and each half ends alone', async (t) => {
  const { one, two } = joined()
  const [there, back] = [randomBytes(5_000_000), randomBytes(3_000_001)]
  const closed = Promise.all([once(one, 'close'), once(two, 'close')])
  one.end(there)
  const received = await read(two)
  t.ok(received.equals(there))
  two.end(back)
  t.ok((await read(one)).equals(back), 'the other half was still open')
  await closed
})

t.test('a reader that does not read stops the writer', async (t) => {
  const { one, two, sent } = joined()
  one.end(randomBytes(4 * TUNNEL_CREDIT_BYTES))
  for (let round = 0; round < 50; round++) await new Promise((resolve) => setImmediate(resolve))
  t.ok(sent.one >= TUNNEL_CREDIT_BYTES && sent.one < 2 * TUNNEL_CREDIT_BYTES, `${sent.one} bytes were sent`)
  t.equal((await read(two)).length, 4 * TUNNEL_CREDIT_BYTES)
})

t.test('what ends one end is told to the other', async (t) => {
  const lost = joined()
  const reading = read(lost.two)
  lost.one.write('some')
  await new Promise((resolve) => setImmediate(resolve))
  lost.one.destroy()
  await t.rejects(reading, { code: 'STREAM_LOST' })
  const failed = joined()
  const refused = read(failed.two)
  failed.two.receive({ kind: 'error', code: 'STREAMS_EXHAUSTED', message: 'this node serves 128 streams already' })
  await t.rejects(refused, { code: 'STREAMS_EXHAUSTED' })
})
