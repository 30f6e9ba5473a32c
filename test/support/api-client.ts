// Speaks HTTP on a unix socket, as Docker's clients do, and plays the engine behind swarmd where no real one is needed.

import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
  /** the body parsed; undefined where it is no JSON */
  readonly json: unknown
  /** `message` of an error */
  readonly message: string
}

export interface Asked {
  readonly body?: unknown
  readonly raw?: string | Buffer
  readonly headers?: Readonly<Record<string, string>>
}

export async function ask(socketPath: string, method: string, path: string, asked: Asked = {}): Promise<Answer> {
  const body = asked.raw ?? (asked.body === undefined ? undefined : JSON.stringify(asked.body))
  const outgoing = request({
    socketPath,
    method,
    path,
    agent: false,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...asked.headers },
  })
  outgoing.end(body)
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  // The answer is there; that the connection was closed behind it is no news.
  outgoing.on('error', () => {})
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(Buffer.from(chunk))
  const text = Buffer.concat(chunks).toString('utf8')
  const json = parse(text)
  const message = typeof json === 'object' && json !== null && 'message' in json ? String(json.message) : ''
  return { status: incoming.statusCode ?? 0, headers: incoming.headers, text, json, message }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A response that goes on: read it piece by piece. */
export async function open(socketPath: string, path: string, headers: Readonly<Record<string, string>> = {}) {
  const outgoing = request({ socketPath, path, agent: false, headers })
  outgoing.end()
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  let text = ''
  const waiting = new Set<() => void>()
  incoming.setEncoding('utf8')
  incoming.on('data', (chunk: string) => {
    text += chunk
    for (const wake of waiting) wake()
  })
  incoming.on('error', () => {})
  return {
    incoming,
    text: () => text,
    /** resolves once everything received so far matches */
    until: async (pattern: RegExp): Promise<string> => {
      while (!pattern.test(text)) {
        await new Promise<void>((resolve) => {
          waiting.add(resolve)
        })
        waiting.clear()
      }
      return text
    },
    close: () => outgoing.destroy(),
  }
}

export interface StandInEngine {
  readonly path: string
  /** method and URL of every request, but the ones for its limits */
  readonly seen: string[]
  /** by path: in place of its own */
  readonly answers: Map<string, unknown>
  close(): Promise<void>
}

/**
 * Enough of an engine of API 1.41 to see what swarmd passes on: it answers with what it was asked, keeps streams open,
 * and takes connections over for exec.
 */
export async function standInEngine(path: string): Promise<StandInEngine> {
  const seen: string[] = []
  const answers = new Map<string, unknown>()
  const sockets = new Set<Socket>()
  const server = createServer((incoming, response) => void answer(incoming, response, seen, answers))
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.on('upgrade', (incoming: IncomingMessage, socket: Socket, head: Buffer) => {
    seen.push(`${incoming.method} ${incoming.url} upgrade`)
    socket.write(
      'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n',
    )
    echo(socket, head)
  })
  server.listen(path)
  await once(server, 'listening')
  return {
    path,
    seen,
    answers,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

/** Sends everything back, and says how much there was once the other side has ended its half. */
function echo(socket: Socket, head: Buffer): void {
  let size = head.length
  socket.write(head)
  socket.on('data', (chunk: Buffer) => {
    size += chunk.length
    socket.write(chunk)
  })
  socket.on('end', () => socket.end(`<${size} bytes>`))
  socket.on('error', () => {})
}

const EVENT =
  '{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{}},"scope":"local","time":1,"timeNano":1000000000}\n'

async function answer(
  incoming: IncomingMessage,
  response: ServerResponse,
  seen: string[],
  answers: ReadonlyMap<string, unknown>,
): Promise<void> {
  const url = incoming.url ?? ''
  const json = (status: number, value: unknown) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(value))
  }
  if (url === '/_ping') {
    response.writeHead(200, { 'Api-Version': '1.41', 'Builder-Version': '2' }).end('OK')
    return
  }
  if (url === '/version') {
    json(200, { ApiVersion: '1.41', MinAPIVersion: '1.12', Version: '20.10.24', Components: [{ Name: 'Engine' }] })
    return
  }
  seen.push(`${incoming.method} ${url}`)
  const path = url.replace(/^\/v1\.\d+/, '').replace(/\?.*$/, '')
  if (answers.has(path)) json(200, answers.get(path))
  else if (path === '/version')
    json(200, { ApiVersion: '1.41', MinAPIVersion: '1.12', Version: '20.10.24', Components: [{ Name: 'Engine' }] })
  else if (path === '/info')
    json(200, { Name: 'host', Swarm: { LocalNodeState: 'inactive' }, Labels: ['a=b'], Warnings: null })
  else if (path === '/networks' || path === '/containers/json')
    json(200, [{ Id: 'local1', Name: 'bridge', Scope: 'local', Labels: {} }])
  else if (path === '/networks/prune') json(200, { NetworksDeleted: null })
  else if (path === '/networks/bridge') json(200, { Id: 'local1', Name: 'bridge', Scope: 'local', Labels: {} })
  else if (path === '/events') {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    if (url.includes('until=1')) response.end(EVENT)
    else response.write(EVENT)
  } else if (path === '/echo') {
    const chunks: Buffer[] = []
    for await (const chunk of incoming) chunks.push(Buffer.from(chunk))
    json(200, { headers: incoming.headers, body: Buffer.concat(chunks).toString('utf8') })
  } else if (/^\/exec\/[^/]+\/start$/.test(path)) {
    // without Upgrade: as the engine does it for old clients
    const { socket } = response
    if (socket === null) return
    response.detachSocket(socket)
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n')
    incoming.on('data', (chunk: Buffer) => socket.write(chunk))
    incoming.on('end', () => socket.end('<end>'))
  } else json(404, { message: `No such thing: ${path}` })
}

/** A bare connection: writes `head`, then each of `rest` when something came back, and collects what comes until the end. */
export async function speak(
  socketPath: string,
  head: string,
  { rest = [], keepOpen = false }: { readonly rest?: readonly string[]; readonly keepOpen?: boolean } = {},
): Promise<string> {
  const socket = connect({ path: socketPath, allowHalfOpen: true })
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.write(head)
  for (const piece of rest) {
    await once(socket, 'data')
    socket.write(piece)
    await once(socket, 'data')
  }
  if (!keepOpen) socket.end()
  await once(socket, 'end')
  socket.destroy()
  return Buffer.concat(chunks).toString('utf8')
}
