// Placement constraints as text: `node.labels.zone != east`. Parsed when a spec is accepted, and by the scheduler.

export interface Constraint {
  readonly key: string
  readonly operator: '==' | '!='
  readonly value: string
}

const KEY = /^[a-z_][a-z0-9\-_.]+$/i
const VALUE = /^[a-z0-9:\-_\s.*()?+[\]\\^$|/]+$/i

/** The constraint, or why the text is none (in Swarm's words). */
export function parseConstraint(
  expression: string,
):
  | { readonly kind: 'constraint'; readonly constraint: Constraint }
  | { readonly kind: 'refused'; readonly why: string } {
  // Swarm looks for == first, wherever it stands.
  const operator = expression.includes('==') ? '==' : expression.includes('!=') ? '!=' : undefined
  if (operator === undefined) return { kind: 'refused', why: 'constraint expected one operator from ==, !=' }
  const at = expression.indexOf(operator)
  const key = expression.slice(0, at).trim()
  const value = expression.slice(at + operator.length).trim()
  if (!KEY.test(key)) return { kind: 'refused', why: `key '${key}' is invalid` }
  if (!VALUE.test(value)) return { kind: 'refused', why: `value '${value}' is invalid` }
  return { kind: 'constraint', constraint: { key, operator, value } }
}
