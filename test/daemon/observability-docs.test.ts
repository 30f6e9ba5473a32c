// What the board, the alert rules and the table of the documentation name is what swarmd exports.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { OWN_METRICS } from '../../src/daemon/metrics/own-metrics.ts'
import { SWARM_METRICS } from '../../src/daemon/metrics/swarm-metrics.ts'

const METRICS = [...SWARM_METRICS, ...OWN_METRICS]
const EXPORTED = new Set(
  METRICS.flatMap(({ name, kind }) =>
    kind === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name],
  ),
)
const read = (name: string): string => readFileSync(join(process.cwd(), 'docs', name), 'utf8')

interface Board {
  readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[]
}
interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly alert: string; readonly expr: string }[] }[]
}

const named = (expression: string): readonly string[] =>
  expression.match(/\b(swarm|swarmctl|process|engine)_\w+/g) ?? []
const board = (JSON.parse(read('observability/grafana.json')) as Board).panels.flatMap(({ targets = [] }) => targets)
const rules = (parse(read('observability/alerts.yml')) as Rules).groups.flatMap((group) => group.rules)

t.test('every metric of the board is exported', (t) => {
  const names = board.flatMap(({ expr }) => named(expr))
  t.ok(names.length > 30, 'the board names metrics')
  t.same(
    names.filter((name) => !EXPORTED.has(name)),
    [],
  )
  t.end()
})

t.test('every metric of the rules is exported', (t) => {
  t.ok(rules.length > 10, 'there are rules')
  for (const { alert, expr } of rules) {
    t.not(named(expr).length, 0, alert)
    t.same(
      named(expr).filter((name) => !EXPORTED.has(name)),
      [],
      alert,
    )
  }
  t.end()
})

t.test('labels that board and rules ask for are the metric’s', (t) => {
  const labels = new Map(
    METRICS.map((metric) => [metric.name, metric.kind === 'histogram' ? [] : (metric.labels ?? [])]),
  )
  const wrong = [...board, ...rules].flatMap(({ expr }) =>
    [...expr.matchAll(/\b((?:swarm|swarmctl)_\w+)\{([^}]*)\}/g)].flatMap(([, name = '', asked = '']) =>
      [...asked.matchAll(/(\w+)\s*(?:=|!)/g)]
        .map(([, label = '']) => label)
        .filter((label) => label !== 'job' && !(labels.get(name.replace(/_bucket$/, '')) ?? []).includes(label))
        .map((label) => `${name}{${label}}`),
    ),
  )
  t.same(wrong, [])
  t.end()
})

t.test('the table says what each metric is, and no other', (t) => {
  const rows = read('observability.md')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
  const documented = rows.flatMap((line) =>
    [...(line.split('|')[1] ?? '').matchAll(/`(\w+)/g)].map(([, name = '']) => name),
  )
  t.same(documented.toSorted(), METRICS.map(({ name }) => name).toSorted())
  t.end()
})
