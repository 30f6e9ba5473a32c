// The table of tasks that `service ps`, `node ps` and `stack ps` print.

import { publishedTexts } from '../api/publish-addresses.ts'
import type { Labels } from '../api/spec.ts'
import { parseTime } from '../lib/clock.ts'
import type { TaskJson } from './api-types.ts'
import type { Context } from './command.ts'
import type { NameResolver } from './names.ts'
import { compareNatural } from './natural-order.ts'
import { renderListing, row } from './output/listing.ts'
import { capitalize, ellipsis } from './output/table.ts'
import { displayImage } from './reference.ts'
import { humanDuration } from './units.ts'

const MAX_ERROR_WIDTH = 30
const ID_WIDTH = 12

export interface TaskListOptions {
  /** --format; '' for the user's default or the table. */
  readonly format: string
  readonly quiet: boolean
  readonly truncate: boolean
}

/** Prints tasks, those of one slot together, earlier ones of a slot indented below the latest. */
export async function printTasks(
  context: Context,
  tasks: readonly TaskJson[],
  names: NameResolver,
  options: TaskListOptions,
): Promise<void> {
  const named = await Promise.all(
    tasks.map(async (task) => {
      const service = await names.service(task.ServiceID ?? '')
      return { task, name: `${service}.${task.Slot ? task.Slot : (task.NodeID ?? '')}` }
    }),
  )
  named.sort(
    (a, b) => compareNatural(a.name, b.name) || parseTime(b.task.CreatedAt ?? '') - parseTime(a.task.CreatedAt ?? ''),
  )
  const format = options.format || (options.quiet ? '' : (context.config.tasksFormat ?? ''))
  const indent = format === '' || format.startsWith('table') ? ' \\_ ' : ''
  const rows = []
  for (const [i, { task, name }] of named.entries()) {
    const shown = named[i - 1]?.name === name ? indent + name : name
    const labels = task.Status.PortStatus?.Ports ? await names.serviceLabels(task.ServiceID ?? '') : undefined
    const node = await names.node(task.NodeID ?? '')
    rows.push(taskRow(task, { name: shown, node, labels }, context.clock.wallMs(), options.truncate))
  }
  context.stdout.write(
    renderListing({
      format,
      quiet: options.quiet,
      table: '{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}',
      raw: 'id: {{.ID}}\\nname: {{.Name}}\\nimage: {{.Image}}\\nnode: {{.Node}}\\ndesired_state: {{.DesiredState}}\\ncurrent_state: {{.CurrentState}}\\nerror: {{.Error}}\\nports: {{.Ports}}\\n',
      quietRaw: 'id: {{.ID}}',
      headers: {
        ID: 'ID',
        Name: 'NAME',
        Image: 'IMAGE',
        Node: 'NODE',
        DesiredState: 'DESIRED STATE',
        CurrentState: 'CURRENT STATE',
        Error: 'ERROR',
        Ports: 'PORTS',
      },
      rows,
    }),
  )
}

interface TaskNames {
  readonly name: string
  readonly node: string
  /** Of its service. */
  readonly labels: Labels | undefined
}

function taskRow(task: TaskJson, { name, node, labels }: TaskNames, nowMs: number, truncate: boolean) {
  const error = task.Status.Err ?? ''
  const image = task.Spec?.ContainerSpec?.Image ?? ''
  const age = humanDuration(nowMs - parseTime(task.Status.Timestamp ?? '')).toLowerCase()
  const shownError = truncate ? ellipsis(error, MAX_ERROR_WIDTH) : error
  return row('*task.taskContext', {
    ID: truncate ? task.ID.slice(0, ID_WIDTH) : task.ID,
    Name: name,
    Image: truncate ? displayImage(image) : image,
    Node: node,
    DesiredState: capitalize(task.DesiredState),
    CurrentState: `${capitalize(task.Status.State)} ${age} ago`,
    Error: shownError === '' ? '' : `"${shownError}"`,
    Ports: (task.Status.PortStatus?.Ports ?? []).flatMap((port) => publishedTexts(port, labels)).join(','),
  })
}
