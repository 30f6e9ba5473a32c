// `swarmctl service rebalance` and `swarmctl node rebalance`: what would be moved, then moving it and telling how far it is.

import type { RebalancePlanJson, RebalanceRequestJson, RebalanceStatusJson } from '../api/rebalance.ts'
import { sleep } from '../lib/clock.ts'
import type { ApiClient } from './client.ts'
import { CliError, type Command, type Context, type Flag } from './command.ts'
import { type Flags, formatFlag, switchType, uintType } from './flags.ts'
import { PROGRAM } from './help.ts'
import { compareNatural } from './natural-order.ts'
import { reference } from './node-names.ts'
import { renderListing, row } from './output/listing.ts'
import { ProgressDisplay } from './output/progress-display.ts'

const PATH = '/swarmd/rebalance'
const POLL_MS = 300

const TABLE = '{{.Task}}\t{{.TaskID}}\t{{.From}}\t{{.To}}\t{{.Order}}\t{{.Reason}}'
const HEADERS = {
  Service: 'SERVICE',
  Task: 'TASK',
  TaskID: 'ID',
  From: 'FROM',
  To: 'TO',
  Order: 'ORDER',
  Reason: 'WHY',
}

async function rebalanceServices(context: Context, flags: Flags, services: readonly string[]): Promise<void> {
  const client = await context.client()
  if (flags.on('stop')) {
    if (flags.names().some((name) => name !== 'stop')) throw new CliError('other flags may not be combined with --stop')
    await stop(context, client, services)
    return
  }
  const excluded = await rebalance(context, client, flags, { Services: services })
  // What was named was meant.
  if (excluded.length > 0) throw new CliError(excluded.join('\n'))
}

async function rebalanceNodes(context: Context, flags: Flags, refs: readonly string[]): Promise<void> {
  const client = await context.client()
  const Nodes: string[] = []
  for (const ref of refs) Nodes.push(await reference(client, ref))
  const excluded = await rebalance(context, client, flags, { Nodes })
  for (const line of excluded) context.stderr.write(`${line}\n`)
}

async function stop(context: Context, client: ApiClient, services: readonly string[]): Promise<void> {
  const errors: string[] = []
  for (const service of services) {
    try {
      await client.text('POST', `${PATH}/stop`, { body: { Services: [service] } })
      context.stdout.write(`${service}\n`)
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      errors.push(error.message)
    }
  }
  if (errors.length > 0) throw new CliError(errors.join('\n'))
}

/** @returns a line for each service that is left as it is */
async function rebalance(
  context: Context,
  client: ApiClient,
  flags: Flags,
  subject: RebalanceRequestJson,
): Promise<readonly string[]> {
  const dryRun = flags.on('dry-run')
  const atOnce = flags.uint('at-once')
  if (atOnce === 0) throw new CliError('invalid argument "0" for "--at-once" flag: must be 1 at least')
  const body: RebalanceRequestJson = {
    ...subject,
    Volumes: flags.on('volumes'),
    DryRun: dryRun,
    ...(atOnce === undefined ? {} : { AtOnce: atOnce }),
  }
  const plan = await client.json<RebalancePlanJson>('POST', PATH, { body })
  const format = flags.text('format')
  if (plan.Moves.length > 0 || format !== '') context.stdout.write(moveTable(plan, format))
  if (format === '') context.stdout.write(`${summary(plan, dryRun)}\n`)
  if (plan.Begun.length > 0 && !flags.on('detach')) await follow(context, client, plan)
  return plan.Excluded.map(({ Service, Reason }) => `service ${Service} is left as it is: ${Reason}`)
}

function moveTable({ Moves }: RebalancePlanJson, format: string): string {
  const sorted = [...Moves].sort((a, b) => compareNatural(a.Task, b.Task))
  return renderListing({
    format,
    quiet: false,
    table: TABLE,
    headers: HEADERS,
    rows: sorted.map(({ Service, Task, TaskID, From, To, Order, Reason }) => {
      const fields = {
        Service,
        Task,
        TaskID: TaskID.slice(0, 12),
        From: From.Hostname || From.ID,
        To: To.Hostname || To.ID,
      }
      return row('*service.rebalanceContext', { ...fields, Order, Reason })
    }),
  })
}

function summary({ Moves, Services, AtOnce, Excluded, Begun }: RebalancePlanJson, dryRun: boolean): string {
  const even = Services - Excluded.length
  if (Moves.length === 0) {
    if (even === 0) return 'Nothing to move.'
    return `Nothing to move: ${even === 1 ? 'the service is' : `${even} services are`} spread as evenly as can be.`
  }
  const moves = Moves.length === 1 ? '1 task' : `${Moves.length} tasks`
  if (dryRun) return `${moves} would be moved, ${AtOnce} at a time. Nothing was changed.`
  const missed = new Set(Moves.map(({ ServiceID }) => ServiceID)).size - Begun.length
  return `${moves} to move, ${AtOnce} at a time.${missed > 0 ? ` ${missed} of the services changed meanwhile and are left as they are.` : ''}`
}

/** Until all runs are over, or Ctrl-C says not to wait. @throws {CliError} for those that were stopped */
async function follow(context: Context, client: ApiClient, plan: RebalancePlanJson): Promise<void> {
  const display = new ProgressDisplay(context.stdout)
  const interrupted = context.interrupted()
  const begun = new Set(plan.Begun)
  const names = [...new Set(plan.Moves.map(({ Service }) => Service))]
  for (;;) {
    const all = await client.json<RebalanceStatusJson[]>('GET', PATH)
    const runs = all.filter(({ ServiceID }) => begun.has(ServiceID))
    for (const run of runs) display.update({ id: run.Service, action: progress(run) })
    // A service that was removed meanwhile has no run any more.
    if (runs.every(({ State }) => State !== 'running')) {
      const stopped = runs.filter(({ State }) => State === 'stopped')
      const lines = stopped.map(({ Service, Message }) => `service ${Service}: rebalancing stopped: ${Message}`)
      if (lines.length > 0) throw new CliError(lines.join('\n'))
      return
    }
    await sleep(context.clock, POLL_MS, interrupted)
    if (!interrupted.aborted) continue
    display.message('Operation continuing in background.')
    display.message(`Use \`${PROGRAM} service rebalance --stop ${names.join(' ')}\` to end it.`)
    return
  }
}

function progress({ State, Done, Planned, UnderWay, Message }: RebalanceStatusJson): string {
  if (State === 'stopped') return `stopped after ${Done} of ${Planned}`
  if (State === 'completed') return `${Done} moved`
  const stages = { starting: 'starting', stopping: 'the one before it stops', watching: 'runs' } as const
  const moves = UnderWay.map(({ Task, To, Stage }) => `${Task} → ${To.Hostname || To.ID} (${stages[Stage]})`)
  const waits = Message ? [`waits: ${Message}`] : []
  return [`${Done} of ${Planned} moved`, ...moves, ...waits].join(', ')
}

const COMMON_FLAGS: readonly Flag[] = [
  {
    name: 'at-once',
    type: uintType,
    help: 'Move so many tasks at a time in the whole cluster (default: the cluster’s setting)',
  },
  {
    name: 'detach',
    short: 'd',
    type: switchType,
    help: 'Exit immediately instead of waiting for the tasks to be moved',
  },
  { name: 'dry-run', type: switchType, help: 'Only show what would be moved' },
  { ...formatFlag, help: "Format the moves as JSON ('json') or using a Go template" },
  {
    name: 'volumes',
    type: switchType,
    help: 'Also move tasks with volumes or directories of their nodes, which stay behind',
  },
]

export const serviceRebalanceCommand: Command = {
  name: 'rebalance',
  usage: '[OPTIONS] SERVICE [SERVICE...]',
  summary: 'Spread the tasks of one or more services evenly over the nodes',
  examples: `  # What would be moved, and why
  ${PROGRAM} service rebalance --dry-run web

  # Move it, two tasks at a time; each new one runs before the old one stops
  ${PROGRAM} service rebalance --at-once 2 web api

  # A service whose volumes have nothing in them that is needed
  ${PROGRAM} service rebalance --volumes cache

  # End it: tasks that run stay where they are
  ${PROGRAM} service rebalance --stop web`,
  flags: [...COMMON_FLAGS, { name: 'stop', type: switchType, help: 'Stop the rebalancing that is under way' }],
  operands: { min: 1, max: undefined },
  completeOperand: 'service',
  run: rebalanceServices,
}

export const nodeRebalanceCommand: Command = {
  name: 'rebalance',
  usage: '[OPTIONS] [NODE...]',
  summary: 'Move tasks of all services onto one or more nodes with room, or evenly over all',
  examples: `  # A node has joined: what would come to it?
  ${PROGRAM} node rebalance --dry-run worker4

  # Fill it, three tasks at a time
  ${PROGRAM} node rebalance --at-once 3 worker4

  # All services over all nodes
  ${PROGRAM} node rebalance

  # Do so whenever a node joins or returns
  ${PROGRAM} swarm update --label-add io.swarmctl.rebalance=on-join`,
  flags: COMMON_FLAGS,
  operands: { min: 0, max: undefined },
  completeOperand: 'node',
  run: rebalanceNodes,
}
