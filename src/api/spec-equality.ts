// Whether two specs ask for the same. Clients differ in what they leave out: a field that is absent, null, empty or zero
// means the same to Docker, except where "not set" has a default of its own. Without this, the first `docker service
// update` after a raw API client's create would restart every task.

/** Fields in which 0 or false differs from "not set" (pointers in Docker's types). */
const OPTIONAL_SCALARS: ReadonlySet<string> = new Set([
  'Init',
  'Delay',
  'MaxAttempts',
  'Window',
  'StopGracePeriod',
  'SwapBytes',
  'MemorySwappiness',
  'Replicas',
  'MaxConcurrent',
  'TotalCompletions',
  'Monitor',
])

export function specsEqual(a: unknown, b: unknown): boolean {
  return equal(a, b, '')
}

function equal(a: unknown, b: unknown, field: string): boolean {
  if (a === b) return true
  const blankA = isBlank(a, field)
  if (blankA || isBlank(b, field)) return blankA && isBlank(b, field)
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false
    return a.every((item, at) => equal(item, b[at], ''))
  }
  if (!isRecord(a) || !isRecord(b)) return false
  for (const key of Object.keys(a)) if (!equal(a[key], b[key], key)) return false
  for (const key of Object.keys(b)) if (!(key in a) && !isBlank(b[key], key)) return false
  return true
}

export function isBlank(value: unknown, field: string): boolean {
  if (value === undefined || value === null || value === '') return true
  if (value === 0 || value === false) return !OPTIONAL_SCALARS.has(field)
  if (Array.isArray(value)) return value.length === 0
  return isRecord(value) && Object.keys(value).every((key) => isBlank(value[key], key))
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
