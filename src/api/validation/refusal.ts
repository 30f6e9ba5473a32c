// How the API refuses: a code that error-status.ts maps to HTTP, and Docker's text. Swarm's managers answered over
// gRPC and Docker shows the prefix to its users, so those refusals carry it as well.

import { CodedError } from '../../lib/errors.ts'

/** Refused by dockerd itself, before Swarm saw it: 400, no prefix. */
export function refusal(message: string): CodedError {
  return new CodedError('INVALID_PARAMETER', message)
}

const GRPC_NAMES = {
  INVALID_ARGUMENT: 'InvalidArgument',
  FAILED_PRECONDITION: 'FailedPrecondition',
  ALREADY_EXISTS: 'AlreadyExists',
  UNIMPLEMENTED: 'Unimplemented',
  NOT_FOUND: 'NotFound',
  PERMISSION_DENIED: 'PermissionDenied',
  UNKNOWN: 'Unknown',
  UNAVAILABLE: 'Unavailable',
  RESOURCE_EXHAUSTED: 'ResourceExhausted',
} as const

/** Refused by a manager: `rpc error: code = … desc = …`. */
export function managerRefusal(code: keyof typeof GRPC_NAMES, message: string): CodedError {
  return new CodedError(code, `rpc error: code = ${GRPC_NAMES[code]} desc = ${message}`)
}

export function invalidArgument(message: string): CodedError {
  return managerRefusal('INVALID_ARGUMENT', message)
}
