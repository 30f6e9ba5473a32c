/**
 * A container's program in tests of packets: serves and asks as it is told, a JSON line each on stdin and stdout. Started in a
 * network namespace with `ip netns exec`.
 */
import { createSocket } from 'node:dgram'
import { connect, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

export type AgentRequest =
  /** TCP and UDP, both families: each line or packet is answered `NAME ADDRESS PORT` of the asker, a long one with its length. */
  | { readonly op: 'serve'; readonly name: string; readonly port: number }
  | {
      readonly op: 'ask'
      readonly protocol: 'tcp' | 'udp'
      readonly host: string
      readonly port: number
      readonly localPort?: number
      readonly localAddress?: string
      /** Length of the question. */
      readonly bytes?: number
    }
  /** TCP questions one after the other until `calm`, which answers how many failed of how many. */
  | { readonly op: 'storm'; readonly key: string; readonly host: string; readonly port: number }
  | { readonly op: 'calm'; readonly key: string }
  /** Opens a TCP connection that `again` uses. */
  | {
      readonly op: 'hold'
      readonly key: string
      readonly host: string
      readonly port: number
      readonly localPort?: number
    }
  | { readonly op: 'again'; readonly key: string }
  /** The same, but for a pause before the answer. */
  | { readonly op: 'later'; readonly key: string }

const TIMEOUT_MS = 1500
const STORM_PAUSE_MS = 3
const NEWLINE = 10
/** A question of this length is answered after a pause. */
const LATER_BYTES = 5
const LATER_MS = 1000
const held = new Map<string, Socket>()
const storms = new Map<string, { failed: number; asked: number; end: (() => void) | undefined }>()

function codeOf(error: Error): string {
  return 'code' in error ? String(error.code) : error.message
}

function perform(request: AgentRequest): Promise<string> {
  switch (request.op) {
    case 'serve':
      return serve(request.name, request.port)
    case 'ask':
      return request.protocol === 'udp' ? askUdp(request) : askTcp(request)
    case 'hold':
      return hold(request)
    case 'storm':
      void storm(request)
      return Promise.resolve('begun')
    case 'calm':
      return calm(request.key)
    case 'again': {
      const socket = held.get(request.key)
      return socket ? roundTrip(socket) : Promise.reject(new Error('NOT_HELD'))
    }
    case 'later': {
      const socket = held.get(request.key)
      return socket ? roundTrip(socket, LATER_BYTES) : Promise.reject(new Error('NOT_HELD'))
    }
  }
}

function plain(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:/, '')
}

function serve(name: string, port: number): Promise<string> {
  const tcp = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    let bytes = 0
    socket.on('data', (data) => {
      bytes += data.length
      if (data.at(-1) !== NEWLINE) return
      const answer = `${name} ${plain(socket.remoteAddress)} ${socket.remotePort}${bytes > 2 ? ` ${bytes}` : ''}\n`
      setTimeout(() => socket.write(answer), bytes === LATER_BYTES ? LATER_MS : 0)
      bytes = 0
    })
  })
  const udp = createSocket('udp6')
  udp.on('message', (data, from) => {
    const long = data.length > 2 ? ` ${data.length}` : ''
    udp.send(`${name} ${plain(from.address)} ${from.port}${long}`, from.port, from.address)
  })
  return new Promise((resolve) => {
    udp.bind(port, '::', () => tcp.listen(port, '::', () => resolve('serving')))
  })
}

function question(bytes = 2): string {
  return `${'?'.repeat(bytes - 1)}\n`
}

function roundTrip(socket: Socket, bytes?: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('TIMEOUT')), TIMEOUT_MS)
    socket.once('data', (data) => {
      clearTimeout(timer)
      resolve(data.toString().trim())
    })
    socket.once('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    socket.write(question(bytes))
  })
}

function open(request: { host: string; port: number; localPort?: number; localAddress?: string }): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...request, autoSelectFamily: false })
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new Error('TIMEOUT'))
    }, TIMEOUT_MS)
    socket.once('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    socket.once('connect', () => {
      clearTimeout(timer)
      resolve(socket)
    })
  })
}

async function askTcp(request: Extract<AgentRequest, { op: 'ask' }>): Promise<string> {
  const socket = await open(request)
  try {
    return await roundTrip(socket, request.bytes)
  } finally {
    // With a reset: the port can be used again at once.
    socket.resetAndDestroy()
  }
}

async function hold(request: Extract<AgentRequest, { op: 'hold' }>): Promise<string> {
  const socket = await open(request)
  socket.on('error', () => socket.destroy())
  held.set(request.key, socket)
  return roundTrip(socket)
}

async function storm(request: Extract<AgentRequest, { op: 'storm' }>): Promise<void> {
  const told = { failed: 0, asked: 0, end: undefined as (() => void) | undefined }
  storms.set(request.key, told)
  while (!told.end) {
    told.asked++
    await askTcp({ ...request, op: 'ask', protocol: 'tcp' }).catch(() => told.failed++)
    await sleep(STORM_PAUSE_MS)
  }
  told.end()
}

async function calm(key: string): Promise<string> {
  const told = storms.get(key)
  if (!told) return 'NO_STORM'
  await new Promise<void>((resolve) => {
    told.end = resolve
  })
  return `${told.failed} of ${told.asked}`
}

function askUdp(request: Extract<AgentRequest, { op: 'ask' }>): Promise<string> {
  const socket = createSocket(request.host.includes(':') ? 'udp6' : 'udp4')
  return new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('TIMEOUT')), TIMEOUT_MS)
    const fail = (error: Error) => {
      clearTimeout(timer)
      reject(error)
    }
    socket.once('error', fail)
    socket.once('message', (data) => {
      clearTimeout(timer)
      resolve(data.toString())
    })
    socket.bind(request.localPort ?? 0, request.localAddress, () => {
      // A connected socket hears of refusals.
      socket.connect(request.port, request.host, () =>
        socket.send(question(request.bytes), (error) => error && fail(error)),
      )
    })
  }).finally(() => socket.close())
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, ...request } = JSON.parse(line) as AgentRequest & { readonly id: number }
  void perform(request).then(
    (answer) => console.log(JSON.stringify({ id, answer })),
    (error: unknown) =>
      console.log(JSON.stringify({ id, answer: error instanceof Error ? codeOf(error) : String(error) })),
  )
}
process.exit(0)
