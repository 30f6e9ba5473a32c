/**
 * The two ends of what is measured between containers; a process each, so that each can have a core of its own.
 *   traffic-program.js serve PORT                       echoes until its input ends; says "ready" first
 *   traffic-program.js rtt HOST PORT MS                 one byte there and back, again and again: { p50Us, p99Us }
 *   traffic-program.js connect HOST PORT MS PARALLEL    connections that carry one byte each way: { perSecond, failed }
 *   traffic-program.js first HOST PORT MS               tries until something answers, at most so long: { atMs }
 *   traffic-program.js name SERVER NAME MS              the same of a name that is to resolve
 */
import { Resolver } from 'node:dns/promises'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

const [mode = '', ...args] = process.argv.slice(2)
const BYTE = Buffer.from('x')

function serve(port: number): void {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('data', (chunk: Buffer) => socket.write(chunk))
    socket.on('error', () => {}) // clients reset, to leave no port in TIME_WAIT
  })
  server.listen(port, '0.0.0.0', () => process.stdout.write('ready\n'))
  process.stdin.resume().on('end', () => process.exit(0))
}

async function roundTrips(host: string, port: number, forMs: number): Promise<object> {
  const socket = connect({ host, port, noDelay: true })
  await once(socket, 'connect')
  const tookUs: number[] = []
  const endMs = performance.now() + forMs
  await new Promise<void>((resolve) => {
    let startedMs = performance.now()
    socket.on('data', () => {
      const nowMs = performance.now()
      tookUs.push((nowMs - startedMs) * 1000)
      if (nowMs > endMs) {
        resolve()
        return
      }
      startedMs = performance.now()
      socket.write(BYTE)
    })
    socket.write(BYTE)
  })
  socket.destroy()
  const sorted = tookUs.slice(tookUs.length >> 3).toSorted((a, b) => a - b) // without what warms up
  return { p50Us: sorted[sorted.length >> 1], p99Us: sorted[Math.floor(sorted.length * 0.99)] }
}

async function connections(host: string, port: number, forMs: number, parallel: number): Promise<object> {
  let done = 0
  let failed = 0
  const startedMs = performance.now()
  const client = async () => {
    while (performance.now() - startedMs < forMs) {
      if (await oneConnection(host, port)) done++
      else failed++
    }
  }
  await Promise.all(Array.from({ length: parallel }, client))
  return { perSecond: done / ((performance.now() - startedMs) / 1000), failed }
}

function oneConnection(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ host, port, noDelay: true }, () => socket.write(BYTE))
    socket.setTimeout(3000, () => socket.destroy(new Error('silent')))
    socket.on('data', () => {
      socket.resetAndDestroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

const BETWEEN_TRIES_MS = 5

/** Wall time: it is compared with what managers say. */
async function first(attempt: () => Promise<boolean>, withinMs: number): Promise<object> {
  const startedMs = performance.now()
  while (performance.now() - startedMs < withinMs) {
    if (await attempt()) return { atMs: Date.now() }
    await new Promise((resolve) => setTimeout(resolve, BETWEEN_TRIES_MS))
  }
  throw new Error(`no answer within ${withinMs} ms: ${args.join(' ')}`)
}

function resolves(server: string, name: string): () => Promise<boolean> {
  const resolver = new Resolver({ timeout: 1000, tries: 1 })
  resolver.setServers([server])
  return () =>
    resolver.resolve4(name).then(
      (addresses) => addresses.length > 0,
      () => false,
    )
}

const [host = '', port = '', ms = '', parallel = ''] = args
switch (mode) {
  case 'serve':
    serve(Number(host))
    break
  case 'rtt':
    process.stdout.write(JSON.stringify(await roundTrips(host, Number(port), Number(ms))))
    break
  case 'connect':
    process.stdout.write(JSON.stringify(await connections(host, Number(port), Number(ms), Number(parallel))))
    break
  case 'first':
    process.stdout.write(JSON.stringify(await first(() => oneConnection(host, Number(port)), Number(ms))))
    break
  case 'name':
    process.stdout.write(JSON.stringify(await first(resolves(host, port), Number(ms))))
    break
  default:
    throw new Error(`no such mode: ${mode}`)
}
