// Makes the requests of requests.ts against a socket, one after the other, and keeps of the answers what two clusters can
// have in common.

import { ask } from '../support/api-client.ts'
import { REQUESTS, type Request } from './requests.ts'

export interface Recorded {
  readonly request: string
  readonly status: number
  readonly message: string
  readonly body: unknown
}

const API = '/v1.41'
/** What differs between any two clusters. */
const OWN_FIELDS = new Set([
  'ID',
  'Id',
  'Version',
  'CreatedAt',
  'UpdatedAt',
  'LastExecution',
  'StartedAt',
  'CompletedAt',
  'TLSInfo',
  'JoinTokens',
])

function common(value: unknown): unknown {
  const text = JSON.stringify(value, (key, each: unknown) => (OWN_FIELDS.has(key) ? undefined : each))
  return text === undefined ? null : (JSON.parse(text.replaceAll(/"[0-9a-z]{25}"/g, '"<id>"')) as unknown)
}

async function field(socket: string, path: string, name: string): Promise<Readonly<Record<string, unknown>>> {
  const { json } = await ask(socket, 'GET', `${API}${path}`)
  return (json as Readonly<Record<string, Readonly<Record<string, unknown>>>>)[name] ?? {}
}

async function make(socket: string, { method, path, body, edit }: Request): Promise<Recorded> {
  const placeholder = /\{version:([^}]+)\}/.exec(path)
  const version = placeholder ? (await field(socket, `/${placeholder[1]}`, 'Version')).Index : ''
  const filled = placeholder ? path.replace(placeholder[0], String(version)) : path
  const sent = edit ? edit.change(await field(socket, edit.of, 'Spec')) : body
  const answer = await ask(socket, method, `${API}${filled}`, sent === undefined ? {} : { body: sent })
  const failed = answer.status >= 400
  return {
    request: `${method} ${path}`,
    status: answer.status,
    message: answer.message.replaceAll(/\b[0-9a-z]{25}\b/g, '<id>').trimEnd(),
    body: failed ? null : common(answer.json),
  }
}

export async function exchange(socket: string): Promise<readonly Recorded[]> {
  const answers: Recorded[] = []
  for (const request of REQUESTS) answers.push(await make(socket, request))
  return answers
}
