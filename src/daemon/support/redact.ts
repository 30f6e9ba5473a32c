// What leaves a node in a support bundle is read by strangers. Objects lose every value that a user may have put a secret into,
// texts lose what looks like one, or is known to be one. What remains is what things are called and how they stand.

import type { StoreView } from '../../manager/store/types.ts'

export const REDACTED = '<redacted>'

/** Lists whose entries are replaced each: their number says something, their content may be a password. */
const LISTS: ReadonlySet<string> = new Set(['Command', 'Args', 'Test', 'Cmd', 'Entrypoint'])
/** Maps of which the names stay. */
const MAPS: ReadonlySet<string> = new Set(['Labels', 'Options', 'DriverOpts', 'Sysctls'])
/** Values of labels and options that swarmd or Docker gives a meaning. */
const KNOWN_NAMES =
  /^(com\.docker\.(stack|swarm|service|network)\.|io\.swarmctl\.|encrypted$|max-size$|max-file$|mode$|com\.docker\.network\.)/
/** Shorter values of variables (`info`, `8080`) stand in logs for other reasons. */
const TELLING_LENGTH = 8
const SECRET_NAMES = /^data$|passw|token|secret_?key|private|authorization|registryauth|cakey|unlock|credentials?$/i

/** A deep copy without values of environment variables, commands, labels, driver options and payloads. */
export function redact(value: unknown): unknown {
  return redactWith(value, wordsOf(value))
}

/** Values of the object's own environment, which its messages may repeat. */
function wordsOf(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.flatMap(wordsOf)
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) =>
    name === 'Env' && Array.isArray(inner) ? environmentValues(inner) : wordsOf(inner),
  )
}

function redactWith(value: unknown, words: readonly string[]): unknown {
  if (typeof value === 'string') return scrub(value, words)
  if (Array.isArray(value)) return value.map((each) => redactWith(each, words))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, redactField(name, inner, words)]))
}

function redactField(name: string, value: unknown, words: readonly string[]): unknown {
  if (Array.isArray(value) && name === 'Env') return value.map((entry) => `${String(entry).split('=')[0]}=${REDACTED}`)
  if (Array.isArray(value) && LISTS.has(name)) return value.map(() => REDACTED)
  if (MAPS.has(name) && isMap(value)) {
    const kept = (key: string, inner: unknown) => (KNOWN_NAMES.test(key) ? redactWith(inner, words) : REDACTED)
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, kept(key, inner)]))
  }
  if (SECRET_NAMES.test(name) && value !== null) return REDACTED
  return redactWith(value, words)
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const PATTERNS: readonly (readonly [RegExp, string])[] = [
  [/SWM(TKN|KEY)-1-[0-9A-Za-z-]+/g, `SWM$1-1-${REDACTED}`],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, REDACTED],
  [/(\w:\/\/)[^\s/@"']+@/g, `$1${REDACTED}@`],
  [/((?:passw(?:or)?d|token|secret|api[-_]?key)=)[^\s"',;&\\]+/gi, `$1${REDACTED}`],
  [/(\b(?:bearer|basic) )[\w+/=.-]{8,}/gi, `$1${REDACTED}`],
]

/** @param words known secrets; those of fewer than 4 characters are found everywhere and hide nothing */
export function scrub(text: string, words: readonly string[]): string {
  let clean = text
  for (const word of words) if (word.length >= 4) clean = clean.replaceAll(word, REDACTED)
  for (const [pattern, replacement] of PATTERNS) clean = clean.replace(pattern, replacement)
  return clean
}

/** Every secret that the cluster knows, for texts that may repeat any of them. In no order, some more than once. */
export function* secretsOf(view: StoreView): Iterable<string> {
  for (const { spec } of view.list('secret')) yield* spellings(spec.Data ?? '')
  for (const { spec } of view.list('config')) yield* spellings(spec.Data ?? '')
  for (const { spec, previousSpec, registryAuth, previousRegistryAuth } of view.list('service')) {
    yield* [...wordsOf(spec), ...wordsOf(previousSpec)].filter((word) => word.length >= TELLING_LENGTH)
    for (const auth of [registryAuth, previousRegistryAuth]) if (auth !== '') yield* loginWords(auth)
  }
  const cluster = view.cluster()
  if (cluster?.unlockKey) yield cluster.unlockKey
}

/** X-Registry-Auth, and the passwords in it. */
function loginWords(auth: string): readonly string[] {
  const text = Buffer.from(auth, 'base64url').toString('utf8')
  const passwords = [...text.matchAll(/"(?:password|auth|identitytoken|registrytoken)"\s*:\s*"([^"]+)"/gi)]
  return [auth, ...passwords.map(([, word = '']) => word)]
}

/** A payload as it is stored, and as the text that it may be. */
function spellings(base64: string): readonly string[] {
  const text = Buffer.from(base64, 'base64').toString('utf8')
  return [base64, text, text.trim()].filter((word) => word !== '')
}

function environmentValues(entries: readonly unknown[]): readonly string[] {
  return entries.map((entry) => String(entry).replace(/^[^=]*=?/, '')).filter((word) => word !== '')
}
