/** Results on disk, one file a run, and the table that a person reads: ours, the reference, their ratio, and the last. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { projectRoot } from '../lab/layout.ts'
import { type Machine, machineName } from './machine.ts'
import type { Figure, Sample } from './measure.ts'

export interface Results {
  readonly format: 1
  /** UTC */
  readonly date: string
  readonly revision: string
  readonly machine: Machine
  /** Of one minute, after the bench. Its own load is in it. */
  readonly loadAfter: number
  readonly options: { readonly runs: number; readonly quick: boolean }
  readonly figures: readonly Figure[]
}

const directory = join(projectRoot, 'bench/results')

/** The newest results of a machine like this one, if there are any. */
export function lastResults(machine: Machine): Results | undefined {
  mkdirSync(directory, { recursive: true })
  const name = readdirSync(directory)
    .filter((file) => file.endsWith(`-${machineName(machine)}.json`))
    .toSorted()
    .at(-1)
  return name === undefined ? undefined : (JSON.parse(readFileSync(join(directory, name), 'utf8')) as Results)
}

/** @returns the file's path */
export function saveResults(results: Results): string {
  mkdirSync(directory, { recursive: true })
  const moment = results.date.slice(0, 16).replace('T', '-').replace(':', '')
  const path = join(directory, `${moment}-${machineName(results.machine)}.json`)
  writeFileSync(path, `${JSON.stringify(results, rounded, 2)}\n`)
  return path
}

const rounded = (_key: string, value: unknown): unknown =>
  typeof value === 'number' ? Number(value.toPrecision(5)) : value

export function ratioOf({ ours, reference }: Figure): number | undefined {
  return reference && reference.sample.median > 0 ? ours.median / reference.sample.median : undefined
}

export function table(figures: readonly Figure[], last: Results | undefined): string {
  const rows = figures.map((figure) => {
    const before = last?.figures.find((each) => each.name === figure.name)
    return [
      figure.name,
      text(figure.ours, figure.unit),
      figure.reference ? text(figure.reference.sample, figure.unit) : '',
      figure.reference?.what ?? '',
      ratioText(ratioOf(figure)),
      targetText(figure),
      before ? change(figure.ours.median, before.ours.median) : '',
      before ? ratioText(ratioOf(before)) : '',
    ]
  })
  const head = ['MEASURE', 'OURS', 'REFERENCE', '', 'RATIO', 'TARGET', 'SINCE LAST', 'LAST RATIO']
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => [...(row[column] ?? '')].length)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - [...cell].length))
      .join('  ')
      .trimEnd()
  return [head, ...rows].map(line).join('\n')
}

/** With ✗ where it is missed. */
function targetText(figure: Figure): string {
  const { ours, target, limit, better, reference, unit } = figure
  const sign = better === 'higher' ? '≥' : '≤'
  const within = (value: number, bound: number) => (better === 'higher' ? value >= bound : value <= bound)
  const parts: { readonly text: string; readonly met: boolean }[] = []
  if (target !== undefined) {
    const value = reference ? ratioOf(figure) : ours.median
    parts.push({
      text: `${sign} ${target}${reference ? '×' : ` ${unit}`}`,
      met: value === undefined || within(value, target),
    })
  }
  if (limit?.median !== undefined)
    parts.push({ text: `${sign} ${limit.median} ${unit}`, met: within(ours.median, limit.median) })
  if (limit?.worst !== undefined) {
    const worst = better === 'higher' ? ours.min : ours.max
    parts.push({ text: `each ${sign} ${limit.worst} ${unit}`, met: within(worst, limit.worst) })
  }
  return parts.map(({ text, met }) => (met ? text : `${text} ✗`)).join(', ')
}

/** The median, and in brackets the least and the most. */
function text({ median, min, max, n }: Sample, unit: string): string {
  const spread = n > 1 ? ` (${short(min)}–${short(max)})` : ''
  return `${short(median)}${unit === '/s' ? '' : ' '}${unit}${spread}`
}

const short = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3))

const ratioText = (ratio: number | undefined): string => (ratio === undefined ? '' : `${ratio.toFixed(2)}×`)

function change(now: number, before: number): string {
  if (before === 0) return now === 0 ? '+0 %' : ''
  const percent = Math.round((now / before - 1) * 100)
  return `${percent >= 0 ? '+' : ''}${percent} %`
}
