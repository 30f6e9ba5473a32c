// A plan for a person to read: one line an object, below it what changes.

import type { PlannedAction, StackPlan } from '../../api/stack-plan.ts'
import { quote } from '../strconv.ts'

const SIGNS: Readonly<Record<PlannedAction['Action'], string>> = {
  create: '+',
  update: '~',
  rotate: '~',
  keep: '!',
  remove: '-',
  none: '=',
}

const LONGEST_VALUE = 160

export function hasChanges({ Actions }: StackPlan): boolean {
  return Actions.some(({ Action }) => Action !== 'none' && Action !== 'keep')
}

export function planText(plan: StackPlan): string {
  const shown = plan.Actions.filter(({ Action }) => Action !== 'none')
  const width = Math.max(0, ...shown.map(({ Kind, Name }) => Kind.length + 1 + Name.length))
  const lines = shown.flatMap((action) => [
    `${SIGNS[action.Action]} ${`${action.Kind} ${action.Name}`.padEnd(width)}  ${remark(action)}`.trimEnd(),
    ...action.Changes.flatMap(({ Path, ...change }) => {
      const [before, after] = [
        'Before' in change ? value(change.Before) : '',
        'After' in change ? value(change.After) : '',
      ]
      if (before === '') return [`    + ${Path}: ${after}`]
      return after === '' ? [`    - ${Path}: ${before}`] : [`    ~ ${Path}: ${before} → ${after}`]
    }),
  ])
  const head = `Stack ${plan.Stack}${plan.StoreVersion === undefined ? '' : `, planned against state ${plan.StoreVersion} of the cluster`}`
  if (lines.length === 0) return `${head}: nothing to do.\n`
  return `${head}\n\n${lines.join('\n')}\n\n${summary(plan)}\n`
}

function remark({ Kind, Action, From, Tasks = 0 }: PlannedAction): string {
  switch (Action) {
    case 'rotate':
      return `contents differ: takes the place of ${From}, which goes once nothing uses it`
    case 'keep':
      return 'differs and stays as it is: networks cannot be changed'
    case 'remove':
      return Kind === 'service' ? `stops ${tasks(Tasks)}` : ''
    case 'update':
      return Kind === 'service' ? (Tasks === 0 ? 'restarts nothing' : `replaces ${tasks(Tasks)}`) : ''
    case 'create':
    case 'none':
      return ''
  }
}

const tasks = (count: number) => `${count} ${count === 1 ? 'task' : 'tasks'}`

function value(data: unknown): string {
  const text = typeof data === 'string' ? (/^[\w./:@+,=-]+$/.test(data) ? data : quote(data)) : JSON.stringify(data)
  return text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}…` : text
}

function summary({ Actions }: StackPlan): string {
  const count = (...kinds: readonly PlannedAction['Action'][]) =>
    Actions.filter(({ Action }) => kinds.includes(Action)).length
  const restarted = Actions.filter(({ Action }) => Action === 'update').reduce((sum, { Tasks = 0 }) => sum + Tasks, 0)
  const stopped = Actions.filter(({ Action }) => Action === 'remove').reduce((sum, { Tasks = 0 }) => sum + Tasks, 0)
  return `${count('create')} to create, ${count('update', 'rotate')} to change (${tasks(restarted)} replaced), ${count('remove')} to remove (${tasks(stopped)} stopped), ${count('none', 'keep')} as they are.`
}
