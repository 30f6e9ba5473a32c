// Requests between the simulated swarmds, as production makes them over HTTPS: one question and one answer a connection.

import type { ManagerAddress } from '../../src/api/dispatcher.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { decode, encode } from '../../src/lib/codec.ts'
import type { Connection, Dialer } from '../../src/lib/connection.ts'
import { CodedError, errorCode, errorMessage } from '../../src/lib/errors.ts'

export interface CallTarget {
  readonly target: ManagerAddress
  readonly path: string
}

interface Refused {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
  readonly leader?: ManagerAddress
}

type Reply = { readonly kind: 'done'; readonly value: unknown } | ({ readonly kind: 'refused' } & Refused)

/** As in production: catching up is part of the answer. */
const ANSWER_TIMEOUT_MS = 90_000
const DIAL_TIMEOUT_MS = 2_000

/** @throws {CodedError} what the other answered; what dialing throws; CONNECTION_LOST */
export async function call(
  environment: { readonly dialer: Dialer; readonly clock: Clock },
  { target, path }: CallTarget,
  request: unknown,
  signal: AbortSignal,
): Promise<unknown> {
  const { dialer, clock } = environment
  const { address, nodeId } = target
  const connection = await dialer.dial({
    address,
    path,
    ...(nodeId !== '' && { nodeId }),
    timeoutMs: DIAL_TIMEOUT_MS,
    signal,
  })
  const reply = await new Promise<Reply | undefined>((resolve) => {
    const end = (answer: Reply | undefined) => {
      timeout.cancel()
      signal.removeEventListener('abort', abort)
      resolve(answer)
    }
    const abort = () => end(undefined)
    const timeout = clock.setTimer(ANSWER_TIMEOUT_MS, abort)
    signal.addEventListener('abort', abort, { once: true })
    connection.listen({ onMessage: (bytes) => end(decode(bytes) as Reply), onClose: abort })
    connection.send(encode(request))
  })
  connection.destroy()
  if (!reply) throw new CodedError('CONNECTION_LOST', `${address} did not answer`, { retryable: true })
  if (reply.kind === 'done') return reply.value
  const { code, message, retryable, leader } = reply
  throw new CodedError(code, message, { retryable, details: leader ? { leader } : {} })
}

/** Answers the one question of a connection. */
export function answer(
  connection: Connection,
  respond: (request: unknown) => Promise<unknown>,
  leader: () => ManagerAddress | undefined,
): void {
  const reply = async (bytes: Uint8Array): Promise<Reply> => {
    try {
      return { kind: 'done', value: await respond(decode(bytes)) }
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      const known = errorCode(error) === 'NOT_LEADER' ? leader() : undefined
      return {
        kind: 'refused',
        code: error.code,
        message: errorMessage(error),
        retryable: error.retryable,
        ...(known && { leader: known }),
      }
    }
  }
  const send = (made: Reply): void => {
    try {
      connection.send(encode(made))
    } catch (error) {
      if (errorCode(error) !== 'CONNECTION_CLOSED') throw error // else nobody waits for it any more
    }
  }
  connection.listen({ onMessage: (bytes) => void reply(bytes).then(send), onClose: () => {} })
}
