// Sockets that a perl holds, tried with TCP: few kernels of build machines have SCTP.

import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { readdirSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import t from 'tap'
import { errorCode } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { HeldPorts } from '../../src/overlay/held-ports.ts'
import { PerlSockets, SCTP } from '../../src/overlay/perl-sockets.ts'

const TCP = 6
const PORT = 48_132

function listenError(host: string, port = PORT): Promise<string> {
  return new Promise((resolve) => {
    const server = createServer()
    server.on('error', (error) => resolve(errorCode(error) ?? ''))
    server.listen(port, host, () => server.close(() => resolve('')))
  })
}

/** A reset arrives, or the end of the connection. */
const turnedAway = (host: string) =>
  new Promise<boolean>((resolve) => {
    connect(PORT, host)
      .on('error', (error) => resolve(errorCode(error) === 'ECONNRESET'))
      .on('end', () => resolve(true))
  })

async function hasSctp(): Promise<boolean> {
  const sockets = new PerlSockets(SCTP, silentLog)
  const held = await sockets.open('::', PORT + 2).then(
    () => true,
    () => false,
  )
  sockets.close()
  return held
}

t.test('a socket is held until it is closed, and turns away who connects', async (t) => {
  const sockets = new PerlSockets(TCP, silentLog)
  t.teardown(() => sockets.close())
  const any = await sockets.open('::', PORT)
  t.same([await listenError('127.0.0.1'), await listenError('0.0.0.0')], ['EADDRINUSE', 'EADDRINUSE'])
  t.ok(await turnedAway('127.0.0.1'))
  await t.rejects(sockets.open('127.0.0.1', PORT), { code: 'EADDRINUSE' })
  const other = await sockets.open('127.0.0.1', PORT + 1)
  any.close()
  // answers come in order: the port is free when this one has come
  await t.rejects(sockets.open('127.0.0.1', PORT + 1), { code: 'EADDRINUSE' })
  t.equal(await listenError('0.0.0.0'), '')
  const one = await sockets.open('127.0.0.1', PORT)
  t.same([await listenError('127.0.0.1'), await listenError('127.0.0.2')], ['EADDRINUSE', ''])
  one.close()
  other.close()
})

t.test('a perl that is killed is replaced, and holds what was held', async (t) => {
  const spawned: number[] = []
  const log = { ...silentLog, warn: () => void spawned.push(1) }
  const sockets = new PerlSockets(TCP, log)
  t.teardown(() => sockets.close())
  await sockets.open('127.0.0.1', PORT)
  execFileSync('pkill', ['-KILL', '-P', String(process.pid), 'perl'])
  while (spawned.length === 0 || (await listenError('127.0.0.1')) === '')
    await new Promise((resolve) => setTimeout(resolve, 10))
  t.equal(await listenError('127.0.0.1'), 'EADDRINUSE')
})

t.test('without perl, or a kernel that knows the protocol, it says so', async (t) => {
  const path = process.env.PATH ?? ''
  process.env.PATH = '/nowhere'
  await t.rejects(new PerlSockets(TCP, silentLog).open('127.0.0.1', PORT), { code: 'NO_PERL' })
  process.env.PATH = path
  const unknown = new PerlSockets(254, silentLog)
  t.teardown(() => unknown.close())
  await t.rejects(unknown.open('127.0.0.1', PORT), { code: 'EPROTONOSUPPORT' })
  const sctp = new PerlSockets(SCTP, silentLog)
  t.teardown(() => sctp.close())
  const code = await sctp.open('::', PORT).then(() => 'held', errorCode)
  t.comment(`SCTP on this kernel: ${code}`)
  t.match(code, /^(held|EPROTONOSUPPORT)$/)
})

t.test('a published port of SCTP is served where it can be held, and where it cannot, which is told', async (t) => {
  const held = new HeldPorts({ ownerOf: async () => '', addresses: () => [], log: silentLog })
  t.teardown(() => held.close())
  const port = { protocol: 'sctp', port: PORT } as const
  const changed = await held.set([port])
  t.same([...held.here.taken], [])
  if (await hasSctp()) t.same(held.problems, [])
  else {
    t.equal(changed, true)
    t.match(held.problems, [
      {
        code: 'PORT_NOT_HELD',
        subject: `${PORT}/sctp`,
        message: `published port ${PORT}/sctp is served on this node, but no socket holds it: this node's kernel has no SCTP`,
      },
    ])
  }
  t.equal(await held.set([port]), false, 'nothing new')
  await held.set([])
  t.same(held.problems, [])
})

t.test('a port of UDP that another program has is tried again and again, and leaves nothing open', async (t) => {
  const other = createSocket('udp6')
  await new Promise<void>((resolve) => other.bind(PORT + 3, resolve))
  t.teardown(() => other.close())
  const held = new HeldPorts({ ownerOf: async () => '', addresses: () => [], log: silentLog })
  t.teardown(() => held.close())
  const port = { protocol: 'udp', port: PORT + 3 } as const
  const open = () => readdirSync('/proc/self/fd').length
  await held.set([port])
  const before = open()
  for (let i = 0; i < 5; i++) await held.set([port])
  t.match(held.problems, [{ code: 'PORT_IN_USE' }])
  t.equal(open(), before)
})

t.test('a container that goes while its ports are being held leaves none of them held', async (t) => {
  const here = [{ device: 'lo', address: '127.0.0.1' }]
  const held = new HeldPorts({ ownerOf: async () => '', addresses: () => here, log: silentLog })
  t.teardown(() => held.close())
  const claimed = held.claim('container', [{ protocol: 'tcp', port: PORT + 4, addresses: ['127.0.0.1'] }])
  const released = held.release('container')
  await claimed
  await released
  t.equal(await listenError('127.0.0.1', PORT + 4), '')
})
