// What several groups of commands do alike.

import type { RequestOptions } from './client.ts'
import { CliError, type Context } from './command.ts'
import type { Flags } from './flags.ts'

/** Removes each object, prints its name, and reports those that failed at the end. @throws {CliError} */
export async function removeAll(
  context: Context,
  refs: readonly string[],
  collection: string,
  query: NonNullable<RequestOptions['query']> = {},
): Promise<void> {
  const client = await context.client()
  const errors: string[] = []
  for (const ref of refs) {
    try {
      await client.text('DELETE', `/${collection}/${encodeURIComponent(ref)}`, { query })
      context.stdout.write(`${ref}\n`)
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      errors.push(error.message)
    }
  }
  if (errors.length > 0) throw new CliError(errors.join('\n'))
}

/** --format, or 'pretty' for --pretty; they cannot be combined. @throws {CliError} */
export function refuseFormatAfterPretty(flags: Flags): string {
  const format = flags.on('pretty') ? 'pretty' : flags.text('format')
  if (format.startsWith('pretty') && format !== 'pretty') {
    throw new CliError('cannot supply extra formatting options to the pretty template')
  }
  return format
}
