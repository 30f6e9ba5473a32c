// `stack ls`, `stack ps` and `stack services`.

import { STACK_LABEL } from '../../api/stack-plan.ts'
import type { ServiceJson, TaskJson } from '../api-types.ts'
import { CliError, type Context } from '../command.ts'
import type { Flags } from '../flags.ts'
import { NameResolver } from '../names.ts'
import { compareNatural } from '../natural-order.ts'
import { renderListing, row } from '../output/listing.ts'
import { printServices } from '../service/listing.ts'
import { printTasks } from '../task-list.ts'
import { checkStackName, stackFilters } from './stack-objects.ts'

export async function listStacks(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  const services = await client.json<ServiceJson[]>('GET', '/services', { filters: { label: { [STACK_LABEL]: true } } })
  const counts = new Map<string, number>()
  for (const { ID, Spec } of services) {
    const stack = Spec.Labels?.[STACK_LABEL]
    if (stack === undefined) throw new CliError(`cannot get label ${STACK_LABEL} for service ${ID}`)
    counts.set(stack, (counts.get(stack) ?? 0) + 1)
  }
  context.stdout.write(
    renderListing({
      format: flags.text('format'),
      quiet: false,
      table: '{{.Name}}\t{{.Services}}',
      headers: { Name: 'NAME', Services: 'SERVICES' },
      rows: [...counts]
        .sort(([a], [b]) => compareNatural(a, b))
        .map(([name, count]) => row('*stack.stackContext', { Name: name, Services: String(count) })),
    }),
  )
}

export async function listStackTasks(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const stack = operands[0]!
  checkStackName(stack)
  const client = await context.client()
  const tasks = await client.json<TaskJson[]>('GET', '/tasks', { filters: stackFilters(stack, flags.filters()) })
  if (tasks.length === 0) throw new CliError(`nothing found in stack: ${stack}`)
  await printTasks(context, tasks, new NameResolver(client, !flags.on('no-resolve')), {
    format: flags.text('format'),
    quiet: flags.on('quiet'),
    truncate: !flags.on('no-trunc'),
  })
}

export async function listStackServices(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const stack = operands[0]!
  checkStackName(stack)
  const client = await context.client()
  const services = await client.json<ServiceJson[]>('GET', '/services', {
    filters: stackFilters(stack, flags.filters()),
    query: { status: flags.on('quiet') ? undefined : 'true' },
  })
  if (services.length === 0) return void context.stderr.write(`Nothing found in stack: ${stack}\n`)
  await printServices(context, client, services, { format: flags.text('format'), quiet: flags.on('quiet') })
}
