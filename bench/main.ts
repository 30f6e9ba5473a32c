/**
 * `make bench`: the cluster beside the engine's own Swarm mode, in one run, on hosts alike: two labs of 3 managers and
 * 2 workers each on this machine, measured in turns. Options (make bench ARGS="…"):
 *   --only NAME   standing, writes, deploy, update, failover, loss, overlay, start, spread, tables or dns; may be repeated;
 *                 endurance, ten minutes of full load, runs only if it is named
 *   --runs N      runs of each, 5 unless told
 *   --quick       a first impression in under three minutes
 *   --no-docker   without the comparison
 *   --save        also keeps the results of a run that is quick, partial or without the comparison
 *   --swarmd FILE another build of swarmd
 */
import { parseArgs } from 'node:util'
import { Lab } from '../lab/lab.ts'
import { BenchCluster } from './bench-cluster.ts'
import { deploy } from './deploy.ts'
import { dns } from './dns.ts'
import { endurance } from './endurance.ts'
import { failover } from './failover.ts'
import { loss } from './loss.ts'
import { describeMachine, gitRevision, loadNow } from './machine.ts'
import type { Bench, Figure, Measure } from './measure.ts'
import { overlay } from './overlay.ts'
import { lastResults, type Results, saveResults, table } from './results.ts'
import { spreading } from './spread.ts'
import { standing } from './standing.ts'
import { start } from './start.ts'
import { tables } from './tables.ts'
import { update } from './update.ts'
import { writes } from './writes.ts'

/** In this order: memory at rest is that of daemons that have done nothing yet. */
const MEASURES: readonly Measure[] = [
  ...[standing, writes, deploy, update, failover, loss],
  ...[overlay, start, spreading, tables, dns],
  endurance,
]

const OURS = 'bench'
const THEIRS = 'benchdocker'
/** The bench ends then, whatever it is at: a measure that is under way when its share is used up may take longer. */
const LIMIT_MINUTES = { full: 25, quick: 8 } as const
/** Of these, what the labs take, and rounds that are under way when their time is up. */
const OTHER_MINUTES = 2
/** A quick run has this part of each measure's share. */
const QUICK = 0.2

interface Options {
  readonly measures: readonly Measure[]
  readonly runs: number
  readonly quick: boolean
  readonly docker: boolean
  readonly save: boolean
  readonly swarmd: string | undefined
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      runs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      'no-docker': { type: 'boolean', default: false },
      save: { type: 'boolean', default: false },
      swarmd: { type: 'string' },
    },
  })
  const names = MEASURES.map((measure) => measure.name)
  const unknown = values.only?.find((name) => !names.includes(name))
  if (unknown !== undefined) throw new Error(`--only ${unknown}: there is ${names.join(', ')}`)
  const runs = Number(values.runs ?? (values.quick ? 1 : 5))
  if (!Number.isInteger(runs) || runs < 1) throw new Error(`--runs ${values.runs}: a whole number from 1`)
  const complete = !values.only && !values.quick && !values['no-docker']
  return {
    measures: MEASURES.filter(({ name, onlyIfNamed }) => values.only?.includes(name) ?? !onlyIfNamed),
    runs,
    quick: values.quick,
    docker: !values['no-docker'],
    save: values.save || complete,
    swarmd: values.swarmd,
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function prepare(options: Options): Promise<Omit<Bench, 'hasTime'>> {
  const lab = (name: string, swarmd: { program?: string } | false) =>
    Lab.up({ name, managers: 3, workers: 2, swarmd, log: (line) => say(`  ${name}: ${line}`) })
  say('two labs of 3 managers and 2 workers')
  const ours = await BenchCluster.form(await lab(OURS, options.swarmd ? { program: options.swarmd } : {}), 'swarmd')
  const theirs = options.docker ? await BenchCluster.form(await lab(THEIRS, false), 'engine') : undefined
  return { ours, theirs, runs: options.runs, quick: options.quick, say: (line) => say(`  ${line}`) }
}

/** What a minute of a measure's share is: less where all of them together would not fit. */
function shares({ measures, quick }: Options): number {
  if (quick) return QUICK * 60_000
  const wanted = measures.filter(({ onlyIfNamed }) => !onlyIfNamed).reduce((sum, { minutes }) => sum + minutes, 0)
  return Math.min(1, (LIMIT_MINUTES.full - OTHER_MINUTES) / wanted) * 60_000
}

async function measure(options: Options, endMs: number): Promise<void> {
  const loadBefore = loadNow()
  const bench = await prepare(options)
  const [first] = bench.ours.lab.hosts
  if (!first) throw new Error('a lab without hosts')
  const machine = await describeMachine({
    directory: bench.ours.lab.dir,
    engineSocket: first.paths.engineSocket,
    loadBefore,
  })
  const last = lastResults(machine)
  const figures: Figure[] = []
  const failed: string[] = []
  const shareMs = shares(options)
  try {
    for (const each of options.measures) {
      const shareOfMs = each.minutes * shareMs
      if (performance.now() + shareOfMs / 2 > endMs) {
        say(`\nno time for ${each.name}`)
        continue
      }
      say(`\n# ${each.name}`)
      const until = performance.now() + shareOfMs
      try {
        figures.push(...(await each.run({ ...bench, hasTime: (forMs = 0) => performance.now() + forMs < until })))
      } catch (error) {
        failed.push(each.name)
        say(`  ${each.name} failed: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
  } finally {
    say(`\n${table(figures, last)}\n`)
  }
  const { runs, quick } = options
  const results: Results = {
    format: 1,
    date: new Date().toISOString(),
    revision: await gitRevision(),
    machine,
    loadAfter: loadNow(),
    options: { runs, quick },
    figures,
  }
  say(
    `${machine.cpus} × ${machine.cpu}, ${machine.memoryGiB} GiB, kernel ${machine.kernel}, engine ${machine.engine}, ` +
      `Node ${machine.node}, a sync takes ${machine.syncMs} ms; load before: ${loadBefore}; revision ${results.revision}`,
  )
  if (loadBefore > machine.cpus / 2) say('The machine was busy with other work: believe ratios rather than figures.')
  if (last) say(`The last results are of ${last.date}, revision ${last.revision}.`)
  if (options.save) say(`Kept in ${saveResults(results)}`)
  if (failed.length > 0) throw new Error(`without ${failed.join(', ')}`)
}

async function main(): Promise<number> {
  const options = readOptions()
  let removed: Promise<unknown> | undefined
  const remove = (): Promise<unknown> => {
    removed ??= Promise.allSettled([Lab.down({ name: OURS }), Lab.down({ name: THEIRS })])
    return removed
  }
  const end = (why: string): void => {
    say(`\n${why}: removing the labs`)
    void remove().finally(() => process.exit(1))
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => end(signal))
  const minutes = options.quick ? LIMIT_MINUTES.quick : LIMIT_MINUTES.full
  const limit = setTimeout(() => end(`not done within ${minutes} minutes`), minutes * 60_000)
  try {
    await measure(options, performance.now() + (minutes - OTHER_MINUTES / 2) * 60_000)
    return 0
  } catch (error) {
    say(`The bench failed: ${error instanceof Error ? error.message : String(error)}`)
    return 1
  } finally {
    clearTimeout(limit)
    await remove()
  }
}

process.exitCode = await main()
