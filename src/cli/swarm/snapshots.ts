// `swarmctl swarm snapshots`: the states of the cluster that the manager's disk has, and what is in one.

import { parseTime } from '../../lib/clock.ts'
import type { Command, Context } from '../command.ts'
import { type Flags, formatFlag, quietFlag } from '../flags.ts'
import { renderListing, row } from '../output/listing.ts'
import { bytesSize, humanDuration } from '../units.ts'

interface SnapshotJson {
  readonly Index: number
  readonly Term: number
  readonly SizeBytes: number
  /** absent: the current one */
  readonly ReplacedAt?: string
}

async function showSnapshots(context: Context, flags: Flags, [index]: readonly string[]): Promise<void> {
  const client = await context.client()
  if (index !== undefined) {
    const contents = await client.json<object>('GET', `/swarmd/snapshots/${encodeURIComponent(index)}`)
    context.stdout.write(`${JSON.stringify(contents, undefined, 4)}\n`)
    return
  }
  const snapshots = await client.json<readonly SnapshotJson[]>('GET', '/swarmd/snapshots')
  context.stdout.write(
    renderListing({
      format: flags.text('format'),
      quiet: flags.on('quiet'),
      table: '{{.Index}}\t{{.Term}}\t{{.Size}}\t{{.Replaced}}',
      headers: { Index: 'INDEX', Term: 'TERM', Size: 'SIZE', Replaced: 'REPLACED', ReplacedAt: 'REPLACED AT' },
      rows: snapshots.map(({ Index, Term, SizeBytes, ReplacedAt = '' }) =>
        row(
          '*swarm.Snapshot',
          {
            ID: String(Index),
            Index: String(Index),
            Term: String(Term),
            Size: bytesSize(SizeBytes),
            Replaced: ReplacedAt === '' ? '' : `${humanDuration(context.clock.wallMs() - parseTime(ReplacedAt))} ago`,
            ReplacedAt,
          },
          {},
        ),
      ),
    }),
  )
}

export const snapshotsCommand: Command = {
  name: 'snapshots',
  usage: '[OPTIONS] [INDEX]',
  summary: 'List the snapshots on the disk of this manager, or show what is in one',
  examples: `  swarmctl swarm update --max-snapshots 3     # keep three earlier states
  swarmctl swarm snapshots
  swarmctl swarm snapshots 120034             # what is in one
  swarmctl swarm init --force-new-cluster --from-snapshot 120034`,
  flags: [formatFlag, quietFlag('Only display indexes')],
  operands: { min: 0, max: 1 },
  run: showSnapshots,
}
