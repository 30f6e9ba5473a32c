// One call to swarmd-net's control socket.

import { request } from 'node:http'
import { CodedError } from '../lib/errors.ts'
import type { ControlCalls } from './control-protocol.ts'

interface Refusal {
  readonly Err?: string
  readonly Code?: string
  readonly Retryable?: boolean
}

/**
 * @throws {CodedError} DATA_PLANE_DOWN (retryable) where nobody answers; what the call was refused with
 */
export async function callControl<Name extends keyof ControlCalls>(
  socketPath: string,
  name: Name,
  body: ControlCalls[Name]['request'],
  signal?: AbortSignal,
): Promise<ControlCalls[Name]['answer']> {
  const { status, text } = await post(socketPath, `/Swarmctl.${name}`, JSON.stringify(body), signal)
  const answer = JSON.parse(text) as ControlCalls[Name]['answer'] & Refusal
  if (status !== 200) {
    throw new CodedError(answer.Code || 'DATA_PLANE_FAILED', answer.Err ?? `status ${status}`, {
      retryable: answer.Retryable ?? false,
    })
  }
  return answer
}

function post(
  socketPath: string,
  path: string,
  body: string,
  signal: AbortSignal | undefined,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void =>
      reject(
        new CodedError('DATA_PLANE_DOWN', `swarmd-net does not answer: ${cause.message}`, { retryable: true, cause }),
      )
    const outgoing = request(
      {
        socketPath,
        path,
        method: 'POST',
        agent: false,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        ...(signal && { signal }),
      },
      (incoming) => {
        const chunks: Buffer[] = []
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
        incoming.on('error', fail)
        incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString() }))
      },
    )
    outgoing.on('error', fail)
    outgoing.end(body)
  })
}
