// The two ways to fail: a CodedError is something that happens in operation (callers branch on its code, codes cross
// the wire); a failed assert is a programmer's mistake and stops the process.

export interface CodedErrorOptions {
  /** The same call may succeed later without anybody changing anything. Default: false. */
  readonly retryable?: boolean
  readonly cause?: unknown
  /** Facts for programs (ids, limits); never secrets: they cross the wire and stand in logs. */
  readonly details?: Readonly<Record<string, unknown>>
}

/** An operational error. `code` is stable and unique within its layer; `message` is for people and may change. */
export class CodedError extends Error {
  readonly code: string
  readonly retryable: boolean
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: string, message: string, options: CodedErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'CodedError'
    this.code = code
    this.retryable = options.retryable ?? false
    this.details = options.details ?? {}
  }
}

/** A broken invariant: the program is wrong. Never caught except to log and stop. */
export class AssertionError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'AssertionError'
  }
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** For unions whose values may come off the wire; switches over our own unions are proved exhaustive by the linter. */
export function unreachable(value: never, what = 'value'): never {
  throw new AssertionError(`unexpected ${what}: ${JSON.stringify(value)}`)
}

/** The code of a CodedError or of a Node.js system error (ENOENT …); undefined for anything else. */
export function errorCode(error: unknown): string | undefined {
  if (error instanceof CodedError) return error.code
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code
  return undefined
}

/** What a person reads of any thrown value. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
