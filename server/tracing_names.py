"""Names of spans and attributes: the one place to change when the GenAI conventions do.

Source: OpenTelemetry semantic-conventions-genai, docs/gen-ai/client-inference.md, status "development";
general names: semantic-conventions 1.44.
"""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"

ERROR_TYPE = "error.type"
STATUS_CODE = "http.response.status_code"
ROUTE = "http.route"
SERVICE_NAME = "service.name"
SERVICE_INSTANCE = "service.instance.id"
ENVIRONMENT = "deployment.environment.name"

# Ours, where no convention has a word.
REQUEST_ID = "goldenfleet.request.id"
TENANT = "goldenfleet.tenant"
NODE = "goldenfleet.node"
ROLE = "goldenfleet.role"
ATTEMPTS = "goldenfleet.attempts"
RESUMES = "goldenfleet.resumes"
RESUME_MODE = "goldenfleet.resume.mode"
RESUME_REASON = "goldenfleet.resume.reason"
RESUME_TOKENS = "goldenfleet.resume.tokens_before"
OUTCOME = "goldenfleet.outcome"

PROVIDER_VALUE = "goldenfleet"
CHAT = "chat"
TEXT_COMPLETION = "text_completion"
# Our routes that generate, and the convention's word for what they do.
OPERATIONS = {
    "chat": CHAT,
    "completions": TEXT_COMPLETION,
    "tgi": TEXT_COMPLETION,
    "generate": TEXT_COMPLETION,
    "generate_stream": TEXT_COMPLETION,
}
