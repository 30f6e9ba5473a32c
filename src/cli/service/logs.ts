// `swarmctl service logs`: lines of all tasks of a service, each with the task and node that it came from.

import { parseTime } from '../../lib/clock.ts'
import type { ServiceJson, TaskJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { DaemonError } from '../client.ts'
import { CliError, type Context } from '../command.ts'
import type { Flags } from '../flags.ts'
import { NameResolver } from '../names.ts'
import { frames, STDERR } from '../output/frames.ts'
import { cut, parseInt64 } from '../strconv.ts'
import { parseDuration } from '../units.ts'

export async function logs(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const client = await context.client()
  const target = operands[0]!
  const { path, tty, width } = await findTarget(client, target)
  const raw = flags.on('raw')
  if (tty && !raw) throw new CliError('tty service logs only supported with --raw')
  const body = await client.stream('GET', path, {
    query: {
      stdout: '1',
      stderr: '1',
      since: sinceSeconds(flags.text('since'), context.clock.wallMs()),
      timestamps: flags.on('timestamps') ? '1' : undefined,
      follow: flags.on('follow') ? '1' : undefined,
      tail: flags.maybe('tail') ?? 'all',
      // the formatted lines are made from the details
      details: flags.on('details') || !raw ? '1' : undefined,
    },
    ...(flags.on('follow') ? { signal: context.interrupted() } : {}),
  })
  try {
    if (tty) {
      for await (const chunk of body) context.stdout.write(chunk as Buffer)
      return
    }
    const format = raw ? undefined : new LineFormat(client, flags, width)
    for await (const { stream, line } of frames(body)) {
      const out = stream === STDERR ? context.stderr : context.stdout
      out.write(format ? await format.apply(line) : line)
    }
  } catch (error) {
    if (flags.on('follow') && context.interrupted().aborted) return
    throw error
  }
}

async function findTarget(
  client: ApiClient,
  target: string,
): Promise<{ readonly path: string; readonly tty: boolean; readonly width: number }> {
  const id = encodeURIComponent(target)
  try {
    const service = await client.json<ServiceJson>('GET', `/services/${id}`)
    const replicas = service.Spec.Mode?.Replicated?.Replicas
    const width = replicas === undefined ? 1 : String(replicas).length
    return { path: `/services/${id}/logs`, tty: service.Spec.TaskTemplate?.ContainerSpec?.TTY ?? false, width }
  } catch (error) {
    if (!(error instanceof DaemonError) || error.status !== 404) throw error
  }
  try {
    const task = await client.json<TaskJson>('GET', `/tasks/${id}`)
    const width = String(task.Slot ?? 0).length
    return { path: `/tasks/${id}/logs`, tty: task.Spec?.ContainerSpec?.TTY ?? false, width }
  } catch (error) {
    if (!(error instanceof DaemonError) || error.status !== 404) throw error
    throw new CliError(`no such task or service: ${target}`)
  }
}

/** A time, an age ("42m") or seconds since 1970, as the API takes it. @throws {CliError} */
export function sinceSeconds(text: string, nowMs: number): string | undefined {
  if (text === '') return undefined
  if (/^\d+(\.\d+)?$/.test(text)) return text
  try {
    return ((nowMs * 1e6 - parseDuration(text)) / 1e9).toFixed(9)
  } catch {
    // no duration: a time then
  }
  const local = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00` : text
  const ms = parseTime(local)
  if (Number.isNaN(ms))
    throw new CliError(`invalid value for "since": failed to parse value as time or duration: "${text}"`)
  return (ms / 1000).toFixed(9)
}

class LineFormat {
  readonly #client: ApiClient
  readonly #flags: Flags
  readonly #width: number
  readonly #names: NameResolver
  readonly #prefixes = new Map<string, Promise<string>>()

  constructor(client: ApiClient, flags: Flags, width: number) {
    this.#client = client
    this.#flags = flags
    this.#width = width
    this.#names = new NameResolver(client, !flags.on('no-resolve'))
  }

  /** "[time] details message" → "[time] service.slot.task@node    | [details] message". */
  async apply(line: Buffer): Promise<Buffer> {
    const [time, afterTime] = this.#flags.on('timestamps') ? splitAt(line) : [undefined, line]
    const [detailsText, message] = splitAt(afterTime)
    const details = parseDetails(detailsText)
    const take = (key: string, what: string) => {
      const value = details.get(key)
      if (value === undefined) throw new CliError(`missing ${what} id in details: ${detailsText}`)
      details.delete(key)
      return value
    }
    const node = take('com.docker.swarm.node.id', 'node')
    const service = take('com.docker.swarm.service.id', 'service')
    const task = take('com.docker.swarm.task.id', 'task')
    const rest = [...details]
      .map(([key, value]) => `${key}=${value}`)
      .sort()
      .join(',')
    const head = [
      time === undefined ? '' : `${time} `,
      await this.#prefix(node, service, task),
      '    | ',
      this.#flags.on('details') ? `${rest} ` : '',
    ].join('')
    return Buffer.concat([Buffer.from(head), message])
  }

  #prefix(node: string, service: string, task: string): Promise<string> {
    const key = `${node} ${service} ${task}`
    let known = this.#prefixes.get(key)
    if (!known) {
      known = this.#makePrefix(node, service, task)
      this.#prefixes.set(key, known)
    }
    return known
  }

  async #makePrefix(node: string, service: string, taskId: string): Promise<string> {
    const [nodeName, serviceName, task] = await Promise.all([
      this.#names.node(node),
      this.#names.service(service),
      this.#client.json<TaskJson>('GET', `/tasks/${taskId}`),
    ])
    const slot = String(task.Slot ?? 0)
    const id = this.#flags.on('no-trunc') ? task.ID : task.ID.slice(0, 12)
    const suffix = this.#flags.on('no-task-ids') ? '' : `.${id}`
    return `${serviceName}.${slot}${suffix}@${nodeName}${' '.repeat(Math.max(0, this.#width - slot.length))}`
  }
}

function splitAt(line: Buffer): [string, Buffer] {
  const at = line.indexOf(0x20)
  if (at < 0) throw new CliError(`invalid context in log message: ${line.toString()}`)
  return [line.subarray(0, at).toString(), line.subarray(at + 1)]
}

/** "a=1,b=2", both sides escaped as in URLs. */
function parseDetails(text: string): Map<string, string> {
  return new Map(
    text.split(',').map((pair) => {
      const { before, after } = cut(pair, '=')
      return [decodeURIComponent(before), decodeURIComponent(after)]
    }),
  )
}

/** What --tail takes: "all" or a number. @throws {ValueError} */
export function checkTail(text: string): unknown {
  return text === 'all' ? text : parseInt64(text)
}
