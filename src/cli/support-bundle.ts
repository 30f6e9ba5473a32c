// `swarmctl support-bundle`: a file for whoever helps, without secrets in it.

import { writeFile } from 'node:fs/promises'
import { formatTime } from '../lib/clock.ts'
import { errorMessage } from '../lib/errors.ts'
import { CliError, type Command, type Context } from './command.ts'
import { type Flags, textType } from './flags.ts'

async function run(context: Context, flags: Flags): Promise<void> {
  const path = flags.text('output') || `swarmctl-support-${stamp(context.clock.wallMs())}.tar.gz`
  if (path === '-' && context.stdout.isTTY) {
    throw new CliError('cowardly refusing to write an archive to a terminal: use -o FILE, or redirect')
  }
  const client = await context.client()
  const chunks: Buffer[] = []
  for await (const chunk of await client.stream('GET', '/swarmd/support-bundle')) chunks.push(chunk as Buffer)
  const archive = Buffer.concat(chunks)
  if (path === '-') {
    context.stdout.write(archive)
    return
  }
  try {
    await writeFile(path, archive, { mode: 0o600 })
  } catch (error) {
    throw new CliError(`failed to write the bundle: ${errorMessage(error)}`)
  }
  context.stdout.write(`${path}\n`)
}

/** 20261121T115600Z */
function stamp(wallMs: number): string {
  return formatTime(wallMs).replace(/\.\d+/, '').replaceAll(/[-:]/g, '')
}

export const supportBundleCommand: Command = {
  name: 'support-bundle',
  usage: '[OPTIONS]',
  summary: 'Save the state of the node as an archive, without secrets',
  examples: `  swarmctl support-bundle
  swarmctl support-bundle -o - | ssh helpdesk 'cat > bundle.tgz'`,
  flags: [
    {
      name: 'output',
      short: 'o',
      type: textType,
      help: 'Write to this file, "-" for STDOUT, instead of one named after the time',
    },
  ],
  operands: { min: 0, max: 0 },
  run,
}
