/**
 * Sends prebuilt requests over keep-alive connections to one socket and reports how it went. A process of its own with
 * its own reading of answers, so that neither side of a comparison pays for the client's work or waits for it:
 * it manages some 20,000 requests a second, many times what any daemon here answers.
 *   node load-generator.js < plan.json > result.json
 */
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'

export interface LoadPlan {
  readonly socketPath: string
  /** Connections, each with one request under way. */
  readonly clients: number
  readonly requests: readonly PlannedRequest[]
}

export interface PlannedRequest {
  readonly method: string
  readonly path: string
  /** Sent as JSON. */
  readonly body?: unknown
}

export interface LoadResult {
  readonly elapsedMs: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** How many answers had each status. */
  readonly statuses: Readonly<Record<string, number>>
  /** The body of the first answer with a status of 400 or more. */
  readonly firstError: string | undefined
  /** What the generator itself used. */
  readonly cpuMs: number
}

interface Answer {
  readonly status: number
  readonly body: Buffer
}

function requestBytes({ method, path, body }: PlannedRequest): Buffer {
  const payload = body === undefined ? '' : JSON.stringify(body)
  const type = payload ? 'Content-Type: application/json\r\n' : ''
  const length = Buffer.byteLength(payload)
  return Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: docker\r\n${type}Content-Length: ${length}\r\n\r\n${payload}`)
}

/** Puts one answer at a time together from what the socket brings: nothing is pipelined. */
class AnswerReader {
  #chunks: Buffer[] = []
  #sizeBytes = 0
  #head: { readonly status: number; readonly sizeBytes: number; readonly bodyBytes: number | undefined } | undefined

  /** The answer, once this chunk has made it complete. */
  push(chunk: Buffer): Answer | undefined {
    this.#chunks.push(chunk)
    this.#sizeBytes += chunk.length
    this.#head ??= this.#parseHead()
    if (!this.#head) return undefined
    const { status, sizeBytes, bodyBytes } = this.#head
    const complete =
      bodyBytes === undefined
        ? chunk.subarray(-5).toString('latin1') === '0\r\n\r\n'
        : this.#sizeBytes >= sizeBytes + bodyBytes
    if (!complete) return undefined
    const body = Buffer.concat(this.#chunks).subarray(sizeBytes)
    this.#chunks = []
    this.#sizeBytes = 0
    this.#head = undefined
    return { status, body }
  }

  #parseHead() {
    const bytes = Buffer.concat(this.#chunks)
    const end = bytes.indexOf('\r\n\r\n')
    if (end < 0) return undefined
    const text = bytes.toString('latin1', 0, end)
    const status = Number(text.slice(9, 12))
    const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1]
    const bodyBytes = length === undefined ? (status === 204 ? 0 : undefined) : Number(length)
    return { status, sizeBytes: end + 4, bodyBytes }
  }
}

/** One connection that takes the next request whenever it has its answer. */
function client(
  socketPath: string,
  next: () => Buffer | undefined,
  onAnswer: (answer: Answer, tookMs: number) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath)
    const reader = new AnswerReader()
    let sentMs = 0
    const send = () => {
      const request = next()
      if (!request) {
        socket.end()
        resolve()
        return
      }
      sentMs = performance.now()
      socket.write(request)
    }
    socket.on('connect', send)
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`${socketPath} closed the connection`)))
    socket.on('data', (chunk) => {
      const answer = reader.push(chunk)
      if (!answer) return
      onAnswer(answer, performance.now() - sentMs)
      send()
    })
  })
}

async function main(): Promise<void> {
  const plan = JSON.parse(await text(process.stdin)) as LoadPlan
  const requests = plan.requests.map(requestBytes)
  const latenciesMs: number[] = []
  const statuses: Record<string, number> = {}
  let firstError: string | undefined
  let at = 0
  const cpu = process.cpuUsage()
  const startedMs = performance.now()
  await Promise.all(
    Array.from({ length: plan.clients }, () =>
      client(
        plan.socketPath,
        () => requests[at++],
        ({ status, body }, tookMs) => {
          latenciesMs.push(tookMs)
          statuses[status] = (statuses[status] ?? 0) + 1
          if (status >= 400) firstError ??= body.toString()
        },
      ),
    ),
  )
  const elapsedMs = performance.now() - startedMs
  const { user, system } = process.cpuUsage(cpu)
  latenciesMs.sort((a, b) => a - b)
  const quantile = (q: number) => latenciesMs[Math.floor(latenciesMs.length * q)] ?? 0
  const result: LoadResult = {
    elapsedMs,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    statuses,
    firstError,
    cpuMs: (user + system) / 1000,
  }
  process.stdout.write(JSON.stringify(result))
}

await main()
