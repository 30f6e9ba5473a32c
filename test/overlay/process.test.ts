/** The parts of swarmd-net that need no kernel: its state on disk, held ports, passed sockets, and swarmd's client of it. */

import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { DataPathReport, OverlayEndpoint } from '../../src/api/data-plane.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import type { VersionAnswer } from '../../src/overlay/control-protocol.ts'
import { type DesiredChange, DesiredStore } from '../../src/overlay/desired-state.ts'
import type { Answer } from '../../src/overlay/driver/network-driver.ts'
import { HeldPorts } from '../../src/overlay/held-ports.ts'
import { Holder } from '../../src/overlay/holder.ts'
import type { FromServer } from '../../src/overlay/holder-protocol.ts'
import { createMethodServer } from '../../src/overlay/http-methods.ts'
import { stateLockPath } from '../../src/overlay/instance.ts'
import { NetClient } from '../../src/overlay/net-client.ts'
import { parseNetCommand } from '../../src/overlay/net-options.ts'
import type { RawHandle } from '../../src/overlay/raw-socket.ts'
import { removeDataPlane } from '../../src/overlay/remove.ts'
import { StateFile } from '../../src/overlay/state-file.ts'
import { inheritedSockets } from '../../src/overlay/systemd-sockets.ts'

const self = { nodeId: 'node1', number: 1, address: '192.0.2.1', dataPathPort: 4789 }
const endpoint = (taskId: string, address: string): OverlayEndpoint => ({
  taskId,
  networkId: 'net',
  nodeNumber: 2,
  addresses: [address],
  serviceId: 's',
  serviceName: 's',
  slot: 1,
  name: taskId,
  hostname: taskId,
  aliases: [],
  serving: true,
  encrypted: false,
})
const set = (revision: number, ...endpoints: OverlayEndpoint[]): DesiredChange => ({
  self,
  revision,
  complete: false,
  set: endpoints.map((one) => ({ kind: 'end-point', endpoint: one })),
  removed: [],
})
const everything = (revision: number, ...endpoints: OverlayEndpoint[]): DesiredChange => ({
  ...set(revision, ...endpoints),
  complete: true,
})
const addressesOf = (store: DesiredStore) => [...store.state.endpoints.values()].flatMap(({ addresses }) => addresses)

/** A socket's path has at most 107 bytes. */
function socketDirectory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'net-'))
  t.teardown(() => rmSync(path, { recursive: true }))
  return path
}

const here = { addresses: () => [], log: silentLog }

t.test('the state on disk', async (t) => {
  const open = async (path: string) => {
    const file = new StateFile(path, silentLog)
    t.teardown(() => file.close())
    const store = await file.load()
    const change = async (next: DesiredChange) => {
      store.apply(next)
      await file.append(next, store)
    }
    return { file, store, change }
  }

  t.test('is what was told last, increments and removals included', async (t) => {
    const path = join(t.testdir({}), 'a', 'desired.jsonl')
    const first = await open(path)
    t.equal(first.store.state.self, undefined)
    await first.change(everything(1, endpoint('t1', '10.0.0.1'), endpoint('t2', '10.0.0.2')))
    await first.change(set(2, endpoint('t3', '10.0.0.3')))
    await first.change({ ...set(3), removed: [{ kind: 'end-point', id: 't1/net' }] })
    // as a killed process leaves it: not closed
    const second = await open(path)
    t.same(addressesOf(second.store), ['10.0.0.2', '10.0.0.3'])
    t.match(second.store.state, { self, revision: 3 })
    await second.change(set(4, endpoint('t4', '10.0.0.4')))
    t.same(addressesOf((await open(path)).store), ['10.0.0.2', '10.0.0.3', '10.0.0.4'])
    t.equal(statSync(path).mode & 0o777, 0o600)
  })

  t.test('is used up to where a crash has cut it, and not at all where it is of another format', async (t) => {
    const path = join(t.testdir({}), 'desired.jsonl')
    const { change } = await open(path)
    await change(everything(1, endpoint('t1', '10.0.0.1')))
    appendFileSync(path, '{"self":{"nodeId":"node1","numb')
    t.same(addressesOf((await open(path)).store), ['10.0.0.1'])
    writeFileSync(path, readFileSync(path, 'utf8').replace('"format":1', '"format":2'))
    t.same(addressesOf((await open(path)).store), [])
  })

  t.test('is whole again after a disk was full in the middle of a change', async (t) => {
    const path = join(t.testdir({}), 'desired.jsonl')
    const { change } = await open(path)
    await change(everything(1, endpoint('t1', '10.0.0.1')))
    const ignore = () => {}
    process.on('SIGXFSZ', ignore) // which would end it
    t.teardown(() => process.off('SIGXFSZ', ignore))
    const limit = (bytes: string) => execFileSync('prlimit', [`--pid=${process.pid}`, `--fsize=${bytes}:`])
    limit(String(statSync(path).size + 20))
    try {
      await t.rejects(change(set(2, endpoint('t2', '10.0.0.2'))), { code: 'EFBIG' })
    } finally {
      limit('unlimited')
    }
    await change(set(3, endpoint('t3', '10.0.0.3')))
    t.same(addressesOf((await open(path)).store), ['10.0.0.1', '10.0.0.2', '10.0.0.3'])
  })

  t.test('does not grow with the number of changes', async (t) => {
    const path = join(t.testdir({}), 'desired.jsonl')
    const { change } = await open(path)
    await change(everything(1))
    const many = Array.from({ length: 400 }, (_, at) => endpoint(`t${at}`, `10.0.${at >> 8}.${at & 255}`))
    for (let revision = 2; revision < 40; revision++) await change(set(revision, ...many))
    t.ok(statSync(path).size < 2 * 1024 * 1024, `${statSync(path).size} bytes`)
    t.equal(addressesOf((await open(path)).store).length, 400)
  })
})

t.test('a holder whose server dies while it hands its sockets over ends, and leaves them free', async (t) => {
  const path = join(socketDirectory(t), 'lock.sock')
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const handle = Reflect.get(server, '_handle') as RawHandle
  const adopted = () => {
    const holder = new Holder({
      program: '/nowhere.mjs',
      serverArguments: [],
      clock: new SystemClock(),
      log: silentLog,
    })
    const listeners: { message: (message: FromServer, handle: unknown) => void; close: () => void } = {
      message: () => {},
      close: () => {},
    }
    const sent: string[] = []
    holder.adopt({
      send: ({ kind }) => void sent.push(kind),
      onMessage: (listener) => {
        listeners.message = listener
      },
      onClose: (listener) => {
        listeners.close = listener
      },
    })
    listeners.message({ kind: 'hello', pid: 1 }, undefined)
    return { holder, listeners, sent }
  }
  const whole = adopted()
  whole.listeners.message({ kind: 'held' }, undefined)
  t.same(whole.sent, ['start'])
  whole.holder.letGo()
  const { holder, listeners, sent } = adopted()
  listeners.message({ kind: 'hold', name: 'lock' }, handle)
  listeners.close()
  await holder.ended
  t.same(sent, [], 'no server was started with half of them')
  t.equal(handle.fd, -1, 'what had come is closed')
})

t.test('held ports', async (t) => {
  const freePort = async (): Promise<number> => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, resolve))
    const { port } = server.address() as AddressInfo
    await new Promise((resolve) => server.close(resolve))
    return port
  }
  const listenError = (port: number, host: string) =>
    new Promise<string>((resolve) => {
      const server = createServer()
      server.on('error', (error) => resolve('code' in error ? String(error.code) : ''))
      server.listen(port, host, () => server.close(() => resolve('')))
    })
  const bindError = (port: number) =>
    new Promise<string>((resolve) => {
      const socket = createSocket('udp4')
      socket.on('error', (error) => resolve('code' in error ? String(error.code) : ''))
      socket.bind(port, () => socket.close(() => resolve('')))
    })

  t.test('are others’ only when they are let go', async (t) => {
    const port = await freePort()
    const held = new HeldPorts({ ...here, ownerOf: async () => '' })
    t.teardown(() => held.close())
    await held.set([
      { protocol: 'tcp', port },
      { protocol: 'udp', port },
    ])
    t.equal(await listenError(port, '127.0.0.1'), 'EADDRINUSE')
    t.equal(await listenError(port, '0.0.0.0'), 'EADDRINUSE')
    t.equal(await bindError(port), 'EADDRINUSE')
    const refused = await new Promise((resolve) => connect(port, '127.0.0.1').on('error', resolve).on('close', resolve))
    t.ok(refused, 'nobody is served')
    await held.set([{ protocol: 'udp', port }])
    t.equal(await listenError(port, '0.0.0.0'), '')
    t.equal(await bindError(port), 'EADDRINUSE')
    await held.set([])
    t.equal(await bindError(port), '')
  })

  t.test('that others have are named with their owner, and taken over when they are free', async (t) => {
    const port = await freePort()
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    const held = new HeldPorts({ ...here, ownerOf: async () => 'nginx (process 7)' })
    t.teardown(() => held.close())
    t.equal(await held.set([{ protocol: 'tcp', port }]), true)
    t.same([...held.here.taken], [`${port}/tcp`])
    t.match(held.problems, [
      {
        code: 'PORT_IN_USE',
        subject: `${port}/tcp`,
        message: `published port ${port}/tcp is in use on this node by nginx (process 7); this node does not serve it`,
      },
    ])
    t.equal(await held.set([{ protocol: 'tcp', port }]), false, 'nothing new')
    await new Promise((resolve) => server.close(resolve))
    t.equal(await held.set([{ protocol: 'tcp', port }]), true)
    t.same(held.problems, [])
    t.equal(await listenError(port, '127.0.0.1'), 'EADDRINUSE')
  })

  t.test('are had later, though once nobody could say who has them', async (t) => {
    const port = await freePort()
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    const held = new HeldPorts({ ...here, ownerOf: () => Promise.reject(new Error('no process to be had')) })
    t.teardown(() => held.close())
    await t.rejects(held.set([{ protocol: 'tcp', port }]), /no process to be had/)
    await new Promise((resolve) => server.close(resolve))
    await held.set([{ protocol: 'tcp', port }])
    t.same([...held.here.taken], [])
    t.equal(await listenError(port, '127.0.0.1'), 'EADDRINUSE')
  })
})

t.test('a port that is for some addresses', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  const opens = (host: string) =>
    new Promise<boolean>((resolve) => {
      const other = createServer()
      other.on('error', () => resolve(false))
      other.listen(port, host, () => other.close(() => resolve(true)))
    })
  const key = `${port}/tcp`
  const addresses: { device: string; address: string }[] = [{ device: 'lo', address: '127.0.0.1' }]
  const held = new HeldPorts({ ...here, ownerOf: async () => '', addresses: () => addresses })
  t.teardown(() => held.close())
  const onlyAt = (...wanted: string[]) => held.set([{ protocol: 'tcp', port, addresses: wanted }])

  t.equal(await onlyAt('127.0.0.1'), true)
  t.same([await opens('127.0.0.1'), await opens('127.0.0.2')], [false, true], 'is held on those alone')
  t.same([...held.here.at], [[key, ['127.0.0.1']]])
  t.equal(await onlyAt('127.0.0.1'), false, 'nothing new')

  await onlyAt('127.0.0.0/30')
  t.same([await opens('127.0.0.1'), await opens('127.0.0.2')], [false, true], 'a subnet is what the node has of it')
  addresses.push({ device: 'lo', address: '127.0.0.2' })
  t.equal(await onlyAt('127.0.0.0/30'), true)
  t.same([await opens('127.0.0.1'), await opens('127.0.0.2')], [false, false], 'and follows its addresses')

  t.equal(await onlyAt('10.9.9.9'), true)
  t.same(held.problems, [
    {
      code: 'ADDRESS_NOT_HERE',
      subject: key,
      message: `published port ${key} is for 10.9.9.9, which this node does not have; this node does not serve it`,
    },
  ])
  t.same([[...held.here.taken], [...held.here.at]], [[], [[key, []]]])
  t.ok(await opens('0.0.0.0'), 'and nothing is held for it')

  const rival = createServer()
  await new Promise<void>((resolve) => rival.listen(port, '127.0.0.2', resolve))
  await onlyAt('127.0.0.1', '127.0.0.2')
  t.match(held.problems, [{ code: 'PORT_IN_USE', subject: key, message: `published port 127.0.0.2:${key} is in use` }])
  t.same([...held.here.at], [[key, ['127.0.0.1']]], 'others than the one that somebody has are served')
  await new Promise((resolve) => rival.close(resolve))

  await held.set([{ protocol: 'tcp', port }])
  t.notOk(await opens('127.0.0.3'), 'opened for every address it is held on all')
  t.same([held.problems, held.here.at.size], [[], 0])
  await held.set([])

  await held.claim('one', [{ protocol: 'tcp', port, addresses: ['127.0.0.1'] }])
  t.same([await opens('127.0.0.1'), await opens('127.0.0.2')], [false, true], 'one container’s likewise')
  t.same([...held.here.at], [[key, ['127.0.0.1']]])
  await held.release('one')
  await t.rejects(held.claim('one', [{ protocol: 'tcp', port, addresses: ['10.9.9.9'] }]), {
    code: 'PORT_TAKEN',
    message: /is for 10\.9\.9\.9, which this node does not have/,
  })
})

t.test('a host-mode port is one container’s', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, resolve))
  const { port } = server.address() as AddressInfo
  const held = new HeldPorts({ ...here, ownerOf: async () => 'nginx (process 7)' })
  t.teardown(() => held.close())
  const tcp = { protocol: 'tcp', port } as const
  const udp = { protocol: 'udp', port } as const
  await t.rejects(held.claim('one', [udp, tcp]), {
    code: 'PORT_TAKEN',
    message: `listen tcp 0.0.0.0:${port}: bind: address already in use (by nginx (process 7))`,
  })
  await new Promise((resolve) => server.close(resolve))
  await held.claim('two', [udp, tcp])
  await held.claim('two', [udp, tcp])
  await t.rejects(held.claim('three', [udp]), { message: `Bind for 0.0.0.0:${port} failed: port is already allocated` })
  await held.set([tcp])
  t.match(held.problems, [{ subject: `${port}/tcp`, message: /in use on this node by a container/ }])
  await held.release('two')
  await held.set([tcp])
  t.same(held.problems, [])
  await t.rejects(held.claim('three', [tcp]), { code: 'PORT_TAKEN' }, 'the mesh has it')
  await held.claim('three', [udp])
})

t.test('swarmd’s client', async (t) => {
  /** A swarmd-net without a data plane: takes, refuses or is away, and notes what it is told. */
  const fake = (folder: string) => {
    const path = join(folder, 'control.sock')
    const store = new DesiredStore()
    const changes: DesiredChange[] = []
    const calls: string[] = []
    let server: ReturnType<typeof createMethodServer> | undefined
    const state = {
      pid: 1,
      build: 'own',
      complete: false,
      refusals: 0,
      report: {} as Partial<DataPathReport>,
      serial: 0,
    }
    const version = (): VersionAnswer => ({
      version: '0',
      build: state.build,
      pid: state.pid,
      holderPid: 1,
      instance: 0,
      facts: { driver: 'swarmctl', dnsAddress: '', egressSubnet: '', egressGateway: '' },
    })
    const apply = (request: Answer): Answer => {
      const change = request as unknown as DesiredChange
      if (state.refusals-- > 0) throw new CodedError('KERNEL_REFUSED', 'not now')
      if (!change.complete && !state.complete) throw new CodedError('DATA_PLANE_RESYNC', 'all')
      state.complete = true
      changes.push(change)
      store.apply(change)
      return {}
    }
    const methods = {
      'Swarmctl.Version': () => ({ ...version() }),
      'Swarmctl.Apply': apply,
      'Swarmctl.Drained': ({ taskId }: Answer) => {
        calls.push(`${taskId} has drained, after ${changes.length} changes`)
        return {}
      },
      'Swarmctl.Upgrade': () => {
        calls.push('upgrade')
        state.build = 'own'
        state.pid++
        state.complete = false
        return {}
      },
      'Swarmctl.Watch': async ({ serial }: Answer, signal: AbortSignal) => {
        if (serial === state.serial) await new Promise((resolve) => signal.addEventListener('abort', resolve))
        return { serial: state.serial, report: state.report }
      },
    }
    const up = () =>
      new Promise<void>((resolve) => {
        calls.push('start')
        state.complete = false
        server = createMethodServer({ methods, bodyBytesMax: 1e6, log: silentLog })
        server.listen(path, resolve)
      })
    const down = async () => {
      server?.closeAllConnections()
      await new Promise((resolve) => server?.close(resolve))
      state.pid++
    }
    return { path, store, changes, calls, state, up, down }
  }
  const clientOf = (net: ReturnType<typeof fake>, start: () => Promise<void>) =>
    new NetClient({
      socketPath: net.path,
      program: '/program',
      build: async () => 'own',
      start,
      remove: async () => {},
      clock: new SystemClock(),
      log: silentLog,
    })

  t.test('starts what does not answer, tells it all, then changes, and all again after its restart', async (t) => {
    const net = fake(socketDirectory(t))
    const client = clientOf(net, net.up)
    t.teardown(async () => {
      await client.close()
      await net.down()
    })
    await client.apply(everything(1, endpoint('t1', '10.0.0.1')))
    t.same(net.calls, ['start'])
    await client.apply(set(2, endpoint('t2', '10.0.0.2')))
    t.match(net.changes, [{ complete: true }, { complete: false, set: [{ endpoint: { taskId: 't2' } }] }])
    await net.down()
    await client.apply({ ...set(3), removed: [{ kind: 'end-point', id: 't1/net' }] })
    t.match(net.changes.at(-1), { complete: true, revision: 3, set: [{ endpoint: { taskId: 't2' } }] })
    t.same(net.calls, ['start', 'start'])
  })

  t.test('sends what gathers as one change, in which the last word counts', async (t) => {
    const net = fake(socketDirectory(t))
    await net.up()
    const client = clientOf(net, net.up)
    t.teardown(async () => {
      await client.close()
      await net.down()
    })
    await client.apply(everything(1, endpoint('t1', '10.0.0.1')))
    await Promise.all([
      client.apply(set(2, endpoint('t2', '10.0.0.2'))),
      client.apply({ ...set(3, endpoint('t3', '10.0.0.3')), removed: [{ kind: 'end-point', id: 't1/net' }] }),
      client.apply(set(4, endpoint('t1', '10.0.0.9'))),
      client.apply({ ...set(5), removed: [{ kind: 'end-point', id: 't3/net' }] }),
    ])
    t.ok(net.changes.length <= 3, `${net.changes.length} calls`)
    t.same(addressesOf(net.store).sort(), ['10.0.0.2', '10.0.0.9'])
    t.equal(net.store.state.revision, 5)
  })

  t.test('tries again what was refused, with everything', async (t) => {
    const net = fake(socketDirectory(t))
    await net.up()
    const client = clientOf(net, net.up)
    t.teardown(async () => {
      await client.close()
      await net.down()
    })
    net.state.refusals = 2
    await client.apply(everything(1, endpoint('t1', '10.0.0.1')))
    t.same(addressesOf(net.store), ['10.0.0.1'])
  })

  t.test('whoever asks whether a task has drained is answered when its withdrawal has arrived', async (t) => {
    const net = fake(socketDirectory(t))
    let start = (): void => {}
    const wanted = new Promise<void>((resolve) => {
      start = resolve
    })
    const client = clientOf(net, () => wanted.then(net.up))
    t.teardown(async () => {
      await client.close()
      await net.down()
    })
    const withdrawn = client.apply(everything(1))
    const drained = client.drained({ taskId: 't1', quietMs: 1, maxMs: 1 }, new AbortController().signal)
    t.equal(await Promise.race([drained.then(() => 'early'), new Promise((done) => setTimeout(done, 100))]), undefined)
    start()
    await drained
    t.same(net.calls, ['start', 't1 has drained, after 1 changes'])
    await withdrawn
    const given = new AbortController()
    await net.down()
    net.calls.length = 0
    client.apply(everything(2)).catch(() => {}) // the end of the test is sooner
    const abandoned = client.drained({ taskId: 't2', quietMs: 1, maxMs: 1 }, given.signal)
    given.abort()
    await abandoned
    t.notMatch(net.calls, ['t2'])
  })

  t.test('has one of another build replaced, once', async (t) => {
    const net = fake(socketDirectory(t))
    await net.up()
    net.state.build = 'older'
    const client = clientOf(net, net.up)
    t.teardown(async () => {
      await client.close()
      await net.down()
    })
    t.match(await client.facts(), { driver: 'swarmctl' })
    await client.apply(everything(1))
    t.same(net.calls, ['start', 'upgrade'])
  })

  t.test('says what a machine lacks to those who need a data plane, and goes on', async (t) => {
    const net = fake(socketDirectory(t))
    const client = clientOf(net, async () => {
      throw new CodedError('DATA_PLANE_UNAVAILABLE', 'overlay networks do not work on this node: no nft')
    })
    t.teardown(() => client.close())
    await t.rejects(client.facts(), { code: 'DATA_PLANE_UNAVAILABLE', message: /no nft/ })
    await t.rejects(client.apply(everything(1)), { code: 'DATA_PLANE_UNAVAILABLE' })
    const stop = new AbortController()
    const reports: DataPathReport[] = []
    await client.watch((report) => {
      reports.push(report)
      stop.abort()
    }, stop.signal)
    t.match(reports, [{ problems: [{ code: 'DATA_PLANE_UNAVAILABLE' }], encryptionProblem: /no nft/ }])
    t.match(await client.report(), { problems: [{ code: 'DATA_PLANE_UNAVAILABLE' }] })
    await client.drained({ taskId: 't1', quietMs: 1, maxMs: 1 }, new AbortController().signal)
  })
})

t.test('what a running swarmd-net needs is not removed, though it does not answer', async (t) => {
  const stateDirectory = socketDirectory(t)
  const runDirectory = socketDirectory(t)
  const running = createServer()
  t.teardown(() => running.close())
  await new Promise<void>((resolve) => running.listen({ path: stateLockPath(stateDirectory) }, resolve))
  const said: string[] = []
  const options = {
    stateDirectory,
    runDirectory,
    pluginDirectory: runDirectory,
    logLevel: 'info',
    supervised: false,
  } as const
  await removeDataPlane(options, (line) => said.push(line))
  t.same(said, ['another swarmd-net has been started meanwhile: nothing is removed'])
  t.ok(statSync(stateDirectory).isDirectory() && statSync(runDirectory).isDirectory())
})

t.test('systemd’s sockets are taken by name, and only by the process they are for', async (t) => {
  const env = { LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'plugin:control' }
  t.same(Object.fromEntries(inheritedSockets(env, 7)), { plugin: 3, control: 4 })
  t.equal(inheritedSockets(env, 8).size, 0)
  t.equal(inheritedSockets({}, 7).size, 0)
})

t.test('the command line refuses what it does not know', async (t) => {
  t.match(parseNetCommand([]), { kind: 'start', options: { stateDirectory: '/var/lib/swarmd/net' } })
  t.match(parseNetCommand(['remove', '--state-dir=/x']), { kind: 'remove', options: { stateDirectory: '/x' } })
  for (const argv of [['frobnicate'], ['--nope'], ['remove', 'x'], ['--log-level=loud']]) {
    t.throws(() => parseNetCommand(argv), { code: 'INVALID_FLAG' }, argv.join(' '))
  }
})
