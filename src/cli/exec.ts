// `swarmctl exec`: a command in a task's container, on whichever node that is.

import { spawnSync } from 'node:child_process'
import type { Duplex, Readable } from 'node:stream'
import { sleep } from '../lib/clock.ts'
import type { ApiClient } from './client.ts'
import { CLUSTER_VIEW } from './cluster-view.ts'
import { CliError, type Command, type Context } from './command.ts'
import { environmentType, type Flags, switchType, textType } from './flags.ts'
import { frames, STDERR } from './output/frames.ts'

/** Docker's, of a command that could not be started. */
const NOT_STARTED = 126
const CANNOT_ATTACH = 1
const RESIZE_TRIES = 10
const RESIZE_RETRY_MS = 50

async function exec(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const [target = '', ...given] = operands
  const command = given[0] === '--' ? given.slice(1) : given
  if (command.length === 0) throw new CliError(`"swarmctl exec" requires a command: swarmctl exec ${target} -- sh`)
  const isTerminal = flags.on('tty')
  const isInteractive = flags.on('interactive')
  if (isTerminal && isInteractive && !context.stdin.isTTY)
    throw new CliError('the input device is not a TTY', CANNOT_ATTACH)
  const isDetached = flags.on('detach')
  const client = await context.client()
  const container = `/containers/${encodeURIComponent(target)}`
  const { Id } = await client.json<{ Id: string }>('POST', `${container}/exec`, {
    headers: CLUSTER_VIEW,
    body: {
      AttachStdin: isInteractive && !isDetached,
      AttachStdout: !isDetached,
      AttachStderr: !isDetached,
      Tty: isTerminal,
      Cmd: command,
      Detach: isDetached,
      ...(flags.list('env').length > 0 ? { Env: flags.list('env') } : {}),
      ...(flags.maybe('user') === undefined ? {} : { User: flags.text('user') }),
      ...(flags.maybe('workdir') === undefined ? {} : { WorkingDir: flags.text('workdir') }),
      ...(flags.on('privileged') ? { Privileged: true } : {}),
    },
  })
  const path = `/exec/${Id}`
  if (isDetached) {
    await client.text('POST', `${path}/start`, { headers: CLUSTER_VIEW, body: { Detach: true, Tty: isTerminal } })
    return
  }
  const connection = await client.hijack('POST', `${path}/start`, {
    headers: CLUSTER_VIEW,
    body: { Detach: false, Tty: isTerminal },
  })
  const restore = isTerminal ? followTerminal(context, client, path, isInteractive) : undefined
  try {
    if (isInteractive) sendInput(context.stdin, connection)
    else if (!isTerminal) connection.end()
    await showOutput(context, connection, isTerminal)
  } finally {
    restore?.()
    connection.destroy()
    // Whatever still waits for input would hold the process.
    context.stdin.unpipe?.(connection)
    context.stdin.pause()
  }
  const { ExitCode, Running } = await client.json<{ ExitCode: number | null; Running: boolean }>(
    'GET',
    `${path}/json`,
    {
      headers: CLUSTER_VIEW,
    },
  )
  if (Running || ExitCode === null)
    throw new CliError(`the connection to ${target} was lost while the command ran`, NOT_STARTED)
  if (ExitCode !== 0) throw new CliError('', ExitCode)
}

function sendInput(stdin: Readable, connection: Duplex): void {
  // The command may end before its input does.
  connection.on('error', () => {})
  stdin.pipe(connection)
}

async function showOutput({ stdout, stderr }: Context, connection: Duplex, isTerminal: boolean): Promise<void> {
  const written = async (out: typeof stdout, data: Buffer) => {
    if (!out.write(data)) await new Promise((resolve) => out.once('drain', resolve))
  }
  if (isTerminal) {
    for await (const chunk of connection) await written(stdout, chunk as Buffer)
    return
  }
  for await (const { stream, line } of frames(connection)) await written(stream === STDERR ? stderr : stdout, line)
}

interface Terminal {
  on(event: 'resize', listener: () => void): unknown
  off(event: 'resize', listener: () => void): unknown
}

/** The command hears of the window's size and, where it has an input, gets keys as they are. Answers how to undo that. */
function followTerminal(context: Context, client: ApiClient, path: string, isInteractive: boolean): () => void {
  const input = context.stdin as typeof context.stdin & { setRawMode?(raw: boolean): unknown }
  const output = context.stdout as typeof context.stdout & Terminal
  let isOver = false
  const send = async (): Promise<void> => {
    // A terminal that does not know its size says 0.
    if (!output.isTTY || !output.rows || !output.columns) return
    const query = { h: String(output.rows), w: String(output.columns) }
    // The engine hands over the connection before the command has its terminal, and refuses until it has.
    for (let i = 0; i < RESIZE_TRIES && !isOver; i++) {
      try {
        return void (await client.text('POST', `${path}/resize`, { query, headers: CLUSTER_VIEW }))
      } catch {
        await sleep(context.clock, RESIZE_RETRY_MS)
      }
    }
  }
  const resize = () => void send()
  if (isInteractive) {
    input.setRawMode?.(true)
    // Node leaves the terminal to write a carriage return before each line feed: the command's own terminal does, unless the command,
    // an editor say, does not want it. What ends raw mode, also at a signal, takes this back.
    spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] })
  }
  resize()
  output.on('resize', resize)
  return () => {
    isOver = true
    output.off('resize', resize)
    if (isInteractive) input.setRawMode?.(false)
  }
}

export const execCommand: Command = {
  name: 'exec',
  usage: '[OPTIONS] SERVICE[.SLOT]|TASK|CONTAINER [--] COMMAND [ARG...]',
  summary: 'Execute a command in a running task or container of any node',
  examples: `  swarmctl exec -it web.1 -- sh         # slot 1 of web, on any node
  swarmctl exec web -- cat /etc/hosts   # where one task of web runs
  swarmctl exec worker2/redis -- top    # container redis of node worker2`,
  flags: [
    { name: 'detach', short: 'd', type: switchType, help: 'Detached mode: run command in the background' },
    { name: 'env', short: 'e', type: environmentType, help: 'Set environment variables' },
    { name: 'interactive', short: 'i', type: switchType, help: 'Keep STDIN open even if not attached' },
    { name: 'privileged', type: switchType, help: 'Give extended privileges to the command' },
    { name: 'tty', short: 't', type: switchType, help: 'Allocate a pseudo-TTY' },
    { name: 'user', short: 'u', type: textType, help: 'Username or UID (format: "<name|uid>[:<group|gid>]")' },
    { name: 'workdir', short: 'w', type: textType, help: 'Working directory inside the container' },
  ],
  operands: { min: 1, max: undefined },
  stopAtOperand: true,
  completeOperand: 'service',
  run: exec,
}
