// A plan of a deployment, from the manager, against one state of its store. A daemon that knows no such plan (Docker's own) is asked for
// what it has, and the same decision is made here.

import { type CurrentPayload, planStack, type StackPlan, type WantedStack } from '../../api/stack-plan.ts'
import type { SecretJson } from '../api-types.ts'
import { type ApiClient, DaemonError } from '../client.ts'
import { CliError } from '../command.ts'
import { orUndefined, stackConfigs, stackNetworks, stackSecrets, stackServices } from './stack-objects.ts'

/** @throws {CliError} naming what services refer to and is not there */
export async function makePlan(client: ApiClient, stack: string, wanted: WantedStack): Promise<StackPlan> {
  const plan = (await askForPlan(client, stack, wanted)) ?? (await planHere(client, stack, wanted))
  if (plan.Missing.length > 0) throw new CliError(plan.Missing.join('\n'))
  return plan
}

async function askForPlan(client: ApiClient, stack: string, body: WantedStack): Promise<StackPlan | undefined> {
  try {
    return await client.json<StackPlan>('POST', `/swarmd/stacks/${encodeURIComponent(stack)}/plan`, { body })
  } catch (error) {
    if (error instanceof DaemonError && error.status === 404) return undefined
    throw error
  }
}

async function planHere(client: ApiClient, stack: string, wanted: WantedStack): Promise<StackPlan> {
  const services = await stackServices(client, stack)
  const known = async (
    kind: 'secrets' | 'configs',
    own: readonly SecretJson[],
    wanted: readonly string[],
    used: readonly string[],
  ) => {
    const found: SecretJson[] = [...own]
    for (const name of wanted) {
      const one = await orUndefined(client.json<SecretJson>('GET', `/${kind}/${encodeURIComponent(name)}`))
      if (one) found.push(one)
    }
    const others = used.filter((name) => !wanted.includes(name))
    if (others.length > 0) {
      const filters = { name: Object.fromEntries(others.map((name) => [name, true as const])) }
      found.push(...(await client.json<SecretJson[]>('GET', `/${kind}`, { filters })))
    }
    return [...new Map(found.map((each) => [each.ID, each])).values()].map(payload)
  }
  return planStack(stack, wanted, {
    networks: (await stackNetworks(client, stack)).map(({ Id, Name, Labels }) => ({
      // What Docker shows of a network is not what it was made from: it is there, that is all.
      ...wanted.Networks.find((network) => network.Name === Name),
      ...{ Id, Name, Version: 0, Labels: Labels ?? {} },
    })),
    secrets: await known(
      'secrets',
      await stackSecrets(client, stack),
      wanted.Secrets.map(({ Name }) => Name),
      wanted.Services.flatMap(({ Secrets }) => Secrets.map(({ SecretName = '' }) => SecretName)),
    ),
    configs: await known(
      'configs',
      await stackConfigs(client, stack),
      wanted.Configs.map(({ Name }) => Name),
      wanted.Services.flatMap(({ Configs }) => Configs.map(({ ConfigName = '' }) => ConfigName)),
    ),
    services: services.map(({ ID, Version, Spec, PreviousSpec }) => ({
      ...{ ID, Version: Version?.Index ?? 0, Spec, PreviousSpec },
    })),
    usedByOthers: new Set(),
    networkName: (target) => target,
    tasksReplaced: () => 0,
    tasksOf: () => 0,
  })
}

/** Docker does not show contents, and refuses an update that changes them. */
function payload({ ID, Version, Spec }: SecretJson): CurrentPayload {
  const { Name = '', Labels = {} } = Spec
  return { ID, Name, Labels, Version: Version?.Index ?? 0, Digest: undefined }
}
