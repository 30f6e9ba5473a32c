// GET /swarmd/support-bundle: what to send to whoever helps, of the node that is asked.

import { CodedError } from '../../lib/errors.ts'
import type { Call } from './call.ts'
import type { Route } from './router.ts'

/** @param bundle makes a .tar.gz; undefined: this server has none to give */
export function supportRoutes(bundle: (() => Promise<Buffer>) | undefined): readonly Route[] {
  const handle = async ({ response }: Call): Promise<void> => {
    if (!bundle) throw new CodedError('PAGE_NOT_FOUND', 'page not found')
    const body = await bundle()
    response.writeHead(200, { 'Content-Type': 'application/gzip', 'Content-Length': body.length })
    response.end(body)
  }
  return [{ place: 'node', method: 'GET', path: '/swarmd/support-bundle', handle }]
}
