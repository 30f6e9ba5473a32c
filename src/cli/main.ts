// `swarmctl`: the command line of a cluster.

import { errorCode } from '../lib/errors.ts'
import { run } from './run.ts'

const environment = { ...process.env }
// dockerode reads these by itself, and fails where a flag has overridden them
delete process.env.DOCKER_HOST
delete process.env.DOCKER_CERT_PATH

// a reader that went away (`swarmctl node ls | head -1`) is no error
process.stdout.on('error', (error) => {
  if (errorCode(error) === 'EPIPE') process.exit(0)
  throw error
})

process.exitCode = await run(process.argv.slice(2), environment, process)
