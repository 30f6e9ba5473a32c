// What docker and swarmctl make of the same stack files: the merged file that they print, and the requests that they send
// to deploy it and to deploy it again. Docker's side is recorded (compose-record.ts).

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { CASES, composeArguments, ENVIRONMENT, GOLDEN, type GoldenFile, withoutCheckout } from './compose-cases.ts'
import { type Recorded, StackRecorder } from './compose-recorder.ts'
import { swarmctl } from './compose-run.ts'

interface Difference {
  readonly reason: string
  readonly config?: (text: string) => string
  /** What of a body is left out of the comparison. */
  readonly ignore?: readonly string[]
}

/** Where swarmctl means to differ, and why. */
const DIFFERENCES: Readonly<Record<string, Difference>> = {
  interpolation: {
    reason: 'docker takes $NAME-word without braces for a default, and loses the word',
    config: (text) => text.replace('ahostbhost-c', 'ahostbhost'),
    ignore: ['Env'],
  },
  process: {
    reason: 'docker accepts oom_score_adj and loses it',
    config: (text) => text.replace(/^ {4}oom_score_adj: .*\n/m, ''),
    ignore: ['OomScoreAdj'],
  },
  'merge-base+merge-over': {
    reason: 'docker accepts oom_score_adj and loses it',
    config: (text) => text.replace(/^ {4}oom_score_adj: .*\n/m, ''),
    ignore: ['OomScoreAdj'],
  },
  'merge-base+merge-over+merge-third': {
    reason: 'docker accepts oom_score_adj and loses it',
    config: (text) => text.replace(/^ {4}oom_score_adj: .*\n/m, ''),
    ignore: ['OomScoreAdj'],
  },
}

const folder = mkdtempSync(join(tmpdir(), 'compose-docker-'))
t.teardown(() => rmSync(folder, { recursive: true }))

for (const names of CASES) {
  const name = names.join('+')
  t.test(name, async (t) => {
    const golden = JSON.parse(readFileSync(join(GOLDEN, `${name}.json`), 'utf8')) as GoldenFile
    const difference = DIFFERENCES[name]
    const config = await swarmctl(['stack', 'config', ...composeArguments(names)], ENVIRONMENT)
    const printed = withoutCheckout(config.stdout)
    t.equal(difference?.config ? difference.config(printed) : printed, golden.config, 'the same file')

    const recorder = new StackRecorder()
    const socket = join(folder, `${name}.sock`)
    await recorder.listen(socket)
    t.teardown(() => recorder.close())
    const deploy = () =>
      swarmctl(['stack', 'deploy', '-d', '--resolve-image', 'never', ...composeArguments(names), 'st'], {
        ...ENVIRONMENT,
        DOCKER_HOST: `unix://${socket}`,
      })
    const first = await deploy()
    t.equal(first.exitCode, golden.exitCode, first.stderr)
    const compare = (sent: readonly Recorded[], wanted: readonly Recorded[], what: string) =>
      t.same(canonical(sent, difference?.ignore), canonical(wanted, difference?.ignore), what)
    if (golden.exitCode === 0) {
      compare(recorder.take(), golden.requests, 'the same objects')
      recorder.force()
      await deploy()
      compare(recorder.take(), golden.updates, 'the same updates')
    } else {
      const [reason = ''] = golden.stderr.trim().split('\n').slice(-1)
      t.match(
        withoutCheckout(first.stderr),
        new RegExp(`${reason.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`, 'm'),
        'the same refusal',
      )
      t.same(recorder.take(), [], 'and nothing was sent before')
    }
  })
}

/** Requests as they can be compared: Go writes nil as null, and some fields that are not set as 0, false or ''. */
function canonical(requests: readonly Recorded[], ignore: readonly string[] = []): unknown {
  return requests.map(({ call, query, body }) => ({ call, query, body: strip(body, ignore, call.includes('network')) }))
}

const GO_ZEROES = new Set(['ForceUpdate', 'Soft', 'Hard', 'NoNewPrivileges', 'Order', 'Config', 'File', 'Registry'])

function strip(value: unknown, ignore: readonly string[], isNetwork: boolean): unknown {
  if (typeof value === 'string') return withoutCheckout(value)
  if (Array.isArray(value)) return value.map((item) => strip(item, ignore, isNetwork))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, item]) => {
        if (item === null || ignore.includes(key)) return false
        return !((isNetwork && (item === false || item === '')) || (!item && GO_ZEROES.has(key)))
      })
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => {
        const inner = strip(item, ignore, isNetwork)
        // docker's order of ports without a published one is any
        return [key, key === 'Ports' && Array.isArray(inner) ? inner.map((port) => JSON.stringify(port)).sort() : inner]
      }),
  )
}
