// Stands where a daemon would and writes down what a client asks of it: the docker CLI and swarmctl are given the same
// command line, and their requests are compared. Answers are just enough for a client to go on.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

export interface Recorded {
  readonly method: string
  readonly path: string
  readonly query: string
  readonly body: unknown
}

const ids = (names: readonly string[]) => names.map((name, i) => ({ ID: `id${i}of${name}`, Spec: { Name: name } }))

export class DockerRecorder {
  readonly requests: Recorded[] = []
  readonly #server: Server
  readonly #service: unknown

  /** `service` answers for every service that is inspected. */
  constructor(service: unknown) {
    this.#service = service
    this.#server = createServer((request, response) => void this.#answer(request, response))
  }

  async listen(socket: string): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(socket, resolve))
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  /** What was asked since the last call, but for questions that change nothing. */
  takeChanges(): Recorded[] {
    return this.requests.splice(0).filter(({ method }) => method !== 'GET' && method !== 'HEAD')
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    const [full = '', query = ''] = (request.url ?? '').split('?')
    const path = full.replace(/^\/v[\d.]+/, '')
    this.requests.push({ method: request.method ?? '', path, query, body: text === '' ? undefined : JSON.parse(text) })
    response.setHeader('Api-Version', '1.51')
    response.setHeader('Content-Type', 'application/json')
    const { status, json } = this.#reply(request.method ?? '', path)
    response.statusCode = status
    response.end(json === undefined ? '' : `${JSON.stringify(json)}\n`)
  }

  #reply(method: string, path: string): { readonly status: number; readonly json?: unknown } {
    if (path === '/_ping') return { status: 200 }
    if (method === 'POST' && path.endsWith('/create')) return { status: 201, json: { ID: 'created', Id: 'created' } }
    if (method === 'POST' && path === '/swarm/init') return { status: 200, json: 'node1' }
    if (method !== 'GET') return { status: 200, json: {} }
    if (path.startsWith('/services/')) return { status: 200, json: this.#service }
    if (path === '/services') return { status: 200, json: [this.#service] }
    if (path.startsWith('/networks/')) {
      const name = path.slice('/networks/'.length)
      return { status: 200, json: { Id: `idof${name}`, Name: name, Driver: 'overlay', Scope: 'swarm' } }
    }
    if (path === '/secrets') return { status: 200, json: ids(['s1', 's2']) }
    if (path === '/configs') return { status: 200, json: ids(['c1', 'c2']) }
    if (path === '/nodes') return { status: 200, json: [node] }
    if (path.startsWith('/nodes/')) return { status: 200, json: node }
    if (path === '/info') return { status: 200, json: { Swarm: { NodeID: 'node1', ControlAvailable: true } } }
    if (path === '/swarm') return { status: 200, json: swarm }
    return { status: 404, json: { message: `nothing at ${path}` } }
  }
}

const node = {
  ID: 'node1',
  Version: { Index: 7 },
  Spec: { Name: '', Labels: { old: '1' }, Role: 'manager', Availability: 'active' },
  Description: { Hostname: 'node1' },
  Status: { State: 'ready' },
  ManagerStatus: { Leader: true, Reachability: 'reachable', Addr: '10.0.0.1:2377' },
}

const swarm = {
  ID: 'cluster',
  Version: { Index: 9 },
  Spec: {
    Name: 'default',
    Labels: {},
    Orchestration: { TaskHistoryRetentionLimit: 5 },
    Raft: {
      SnapshotInterval: 10000,
      KeepOldSnapshots: 0,
      LogEntriesForSlowFollowers: 500,
      ElectionTick: 10,
      HeartbeatTick: 1,
    },
    Dispatcher: { HeartbeatPeriod: 5000000000 },
    CAConfig: { NodeCertExpiry: 7776000000000000 },
    TaskDefaults: {},
    EncryptionConfig: { AutoLockManagers: false },
  },
  TLSInfo: { TrustRoot: 'root' },
  JoinTokens: { Worker: 'worker-token', Manager: 'manager-token' },
}
