/** Waiting for a fact in a test: on events where there are some, with a deadline that is no measurement. */
import { request } from 'node:http'

const POLL_MS = 250
/** A burst of events is one reason to look. */
const SETTLE_MS = 20

/**
 * Calls `fact` until it answers something truthy, which is the result. Looks again at each event that the socket's
 * `GET /events` tells of, and four times a second besides. An error in `fact` is a "not yet".
 * @throws after `deadlineMs`, with `description` and the last "not yet".
 */
export async function waitFor<T>(
  description: string,
  fact: () => Promise<T | undefined | null | false | 0 | ''>,
  deadlineMs: number,
  socketPath?: string,
): Promise<T> {
  const events = socketPath ? listen(socketPath) : undefined
  const expires = performance.now() + deadlineMs
  let last: unknown = 'it was false'
  try {
    for (;;) {
      try {
        const value = await fact()
        if (value) return value
        last = `it was ${JSON.stringify(value)}`
      } catch (error) {
        last = error instanceof Error ? error.message : error
      }
      if (performance.now() > expires) throw new Error(`not within ${deadlineMs} ms: ${description} (${last})`)
      await Promise.race([pause(POLL_MS), events ? events.next() : pause(POLL_MS)])
    }
  } finally {
    events?.close()
  }
}

interface EventBell {
  readonly next: () => Promise<void>
  readonly close: () => void
}

function listen(socketPath: string): EventBell {
  let rung = false
  let ring = () => {
    rung = true
  }
  const outgoing = request({ socketPath, path: '/events', agent: false }, (incoming) => {
    incoming.on('data', () => ring())
    incoming.on('error', () => {}) // polling goes on
  })
  outgoing.on('error', () => {})
  outgoing.end()
  return {
    next: async () => {
      if (!rung) {
        await new Promise<void>((resolve) => {
          ring = () => {
            rung = true
            resolve()
          }
        })
      }
      await pause(SETTLE_MS)
      rung = false
    },
    close: () => outgoing.destroy(),
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
