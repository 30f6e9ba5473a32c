// `stack deploy` and `stack plan`: compose files into the cluster, in Docker's order: services that are no longer there (--prune),
// networks, secrets, configs, services; last, when the services have converged, what nothing uses any more. Everything that can be
// wrong with the files is found before the first request that changes something.

import type { StackPlan } from '../../api/stack-plan.ts'
import type { InfoJson, NetworkJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError, type Context } from '../command.ts'
import { convertSecrets } from '../compose/convert-objects.ts'
import { isUserDefinedNetwork } from '../compose/names.ts'
import type { Flags } from '../flags.ts'
import { PROGRAM } from '../help.ts'
import { quote } from '../strconv.ts'
import { carryOut, removeSurplus } from './carry-out.ts'
import { checkImages, readCompose } from './compose-input.ts'
import { type DesiredStack, desiredStack, type ImageChoice, pinImages, wantedStack } from './desired-stack.ts'
import { makePlan } from './make-plan.ts'
import { readPlan, requireUnmoved, withContents, writePlan } from './plan-file.ts'
import { hasChanges, planText } from './plan-text.ts'
import { checkStackName, orUndefined, stackServices } from './stack-objects.ts'
import { waitForServices } from './wait.ts'

/** As `terraform plan -detailed-exitcode` and `diff` have it: there is something to do. */
const CHANGES_EXIT_CODE = 2

interface Prepared {
  readonly stack: string
  readonly desired: DesiredStack
  readonly plan: StackPlan
  readonly warnings: ReadonlyMap<string, string>
}

export async function deployStack(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const client = await context.client()
  const file = flags.maybe('plan')
  const prepared =
    file === undefined
      ? await prepare(context, client, flags, operands)
      : await asPlanned(context, client, flags, operands, file)
  const { stack, desired, plan, warnings } = prepared
  const deployed = await carryOut(context, client, desired, plan, {
    sendAuth: flags.on('with-registry-auth'),
    warnings,
  })
  if (!flags.on('detach')) {
    await waitForServices(context, stack, deployed, {
      quiet: flags.on('quiet'),
      timeoutMs: (flags.duration('timeout') ?? 0) / 1e6,
    })
  }
  await removeSurplus(context, client, plan)
}

export async function showPlan(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const format = flags.maybe('format') ?? 'text'
  if (format !== 'text' && format !== 'json')
    throw new CliError(`invalid format ${quote(format)}: must be text or json`)
  const client = await context.client()
  const { desired, plan, warnings } = await prepare(context, client, flags, operands)
  for (const warning of warnings.values()) context.stderr.write(`${warning}\n`)
  const out = flags.maybe('out')
  if (out !== undefined) writePlan(out, { desired, plan })
  if (!flags.on('quiet')) {
    context.stdout.write(format === 'json' ? `${JSON.stringify(plan, undefined, 2)}\n` : planText(plan))
  }
  if (hasChanges(plan)) throw new CliError('', CHANGES_EXIT_CODE)
}

/** From the compose files to a plan; nothing is changed. */
async function prepare(
  context: Context,
  client: ApiClient,
  flags: Flags,
  operands: readonly string[],
): Promise<Prepared> {
  const [stack = '', ...only] = operands
  if (stack === '') throw new CliError('a STACK is required, unless --plan names a plan')
  checkStackName(stack)
  const model = await readCompose(context, flags, { onWarning: (text) => void context.stderr.write(`${text}\n`) })
  checkImages(model)
  const choice = imageChoice(flags)
  if (only.length > 0 && flags.on('prune')) throw new CliError('--prune is for the whole stack: leave out the services')
  const wanted = desiredStack(stack, model, { only, prune: flags.on('prune') })
  await requireManager(client)
  await requireExternalNetworks(client, wanted.networks.external)
  const current = choice.resolve === 'changed' ? await stackServices(client, stack) : []
  const { desired, warnings } = await pinImages(context, client, wanted, current, choice)
  return { stack, desired, plan: await makePlan(client, stack, wantedStack(desired)), warnings }
}

/** A plan from a file, provided that what it rests on is as it was. */
async function asPlanned(
  context: Context,
  client: ApiClient,
  flags: Flags,
  operands: readonly string[],
  file: string,
): Promise<Prepared> {
  const kept = readPlan(file)
  const stack = kept.plan.Stack
  if (operands.length > 0 && (operands.length > 1 || operands[0] !== stack)) {
    throw new CliError(`the plan is one for stack ${stack}: leave out ${operands.join(' ')}`)
  }
  const forFiles = flags.changed('compose-file') ? [] : ['env-file']
  for (const name of [...forFiles, 'prune', 'resolve-image'].filter((each) => flags.changed(each))) {
    throw new CliError(`--${name} is for making a plan: it has no meaning beside --plan`)
  }
  await requireManager(client)
  const plan = await makePlan(client, stack, wantedStack(kept.desired))
  requireUnmoved(stack, kept.plan, plan)
  const given = flags.changed('compose-file')
    ? async () => convertSecrets(stack, await readCompose(context, flags, { onWarning: () => {} }))
    : undefined
  const secrets = await withContents({ desired: kept.desired, plan }, given)
  return { stack, desired: { ...kept.desired, secrets }, plan, warnings: new Map() }
}

function imageChoice(flags: Flags): ImageChoice {
  const resolve = flags.maybe('resolve-image') ?? 'always'
  if (resolve !== 'always' && resolve !== 'changed' && resolve !== 'never') {
    throw new CliError(`invalid option ${resolve} for flag --resolve-image`)
  }
  return { resolve, sendAuth: flags.on('with-registry-auth') }
}

async function requireManager(client: ApiClient): Promise<void> {
  const info = await client.json<InfoJson>('GET', '/info')
  if (info.Swarm?.ControlAvailable) return
  throw new CliError(
    `this node is not a swarm manager. Use "${PROGRAM} swarm init" or "${PROGRAM} swarm join" to connect this node to swarm and try again`,
  )
}

async function requireExternalNetworks(client: ApiClient, names: readonly string[]): Promise<void> {
  for (const name of names.filter(isUserDefinedNetwork)) {
    const network = await orUndefined(client.json<NetworkJson>('GET', `/networks/${encodeURIComponent(name)}`))
    if (!network) {
      throw new CliError(
        `network ${quote(name)} is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed`,
      )
    }
    if (network.Scope !== 'swarm') {
      throw new CliError(
        `network ${quote(name)} is declared as external, but it is not in the right scope: ${quote(network.Scope)} instead of "swarm"`,
      )
    }
  }
}
