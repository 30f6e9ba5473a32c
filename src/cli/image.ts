// `swarmctl image push`: an image of the manager's machine to the nodes that lack it, without a registry.

import { createInterface } from 'node:readline'
import { CliError, type Command, type Context } from './command.ts'
import { type Flags, listType, quietFlag } from './flags.ts'
import { bytesSize } from './units.ts'

interface PushLine {
  readonly Node: string
  readonly State: 'present' | 'sending' | 'loaded' | 'failed'
  readonly Layers?: number
  readonly Total?: number
  readonly Bytes?: number
  readonly Message?: string
}

async function push(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const client = await context.client()
  const failed: string[] = []
  for (const name of operands) {
    const query = { name, node: flags.list('node').join(',') || undefined }
    const answer = await client.stream('POST', '/swarmd/images/push', { query })
    let nodes = 0
    for await (const text of createInterface({ input: answer })) {
      const line = JSON.parse(text) as PushLine
      if (line.State !== 'sending') nodes++
      if (line.State === 'failed') failed.push(`${name} on ${line.Node}: ${line.Message ?? ''}`)
      else if (!flags.on('quiet')) context.stdout.write(`${name}: ${line.Node}: ${told(line)}\n`)
    }
    if (nodes === 0 && !flags.on('quiet')) context.stdout.write(`${name}: there is no other node\n`)
  }
  if (failed.length > 0) throw new CliError(failed.join('\n'))
}

function told({ State, Layers = 0, Total = 0, Bytes = 0 }: PushLine): string {
  if (State === 'present') return 'already there'
  const layers = `${Layers} of ${Total} ${Total === 1 ? 'layer' : 'layers'}`
  return State === 'sending' ? `sending ${layers}` : `loaded (${layers}, ${bytesSize(Bytes)})`
}

export const imageCommands: readonly Command[] = [
  {
    name: 'push',
    usage: '[OPTIONS] IMAGE [IMAGE...]',
    summary: 'Bring images of this machine to the nodes that lack them, without a registry',
    examples: `  docker build -t shop:7 . && swarmctl image push shop:7
  swarmctl image push --node worker1 --node worker2 shop:7`,
    flags: [
      { name: 'node', type: listType, help: 'Only to this node (id or hostname; repeatable)', complete: 'node' },
      quietFlag('Print nothing but errors'),
    ],
    operands: { min: 1, max: undefined },
    run: push,
  },
]
