"""How each provider's LangChain classes spell the canonical parameters: tables alone."""

from __future__ import annotations

from collections.abc import Mapping

PROVIDERS: Mapping[str, str] = {
    "langchain.chat_models.openai.ChatOpenAI": "openai",
    "langchain.llms.openai.OpenAI": "openai",
    "openai": "openai",
    "langchain.chat_models.azure_openai.AzureChatOpenAI": "azure",
    "langchain.llms.openai.AzureOpenAI": "azure",
    "azure": "azure",
    "langchain.chat_models.anthropic.ChatAnthropic": "anthropic",
    "langchain_google_genai.chat_models.ChatGoogleGenerativeAI": "google",
    "langchain.chat_models.mistralai.ChatMistralAI": "mistralai",
    "langchain_groq.chat_models.ChatGroq": "groq",
    "langchain.chat_models.bedrock.ChatBedrock": "bedrock",
    "langchain_aws.chat_models.ChatBedrock": "bedrock",
    "langchain_aws.chat_models.ChatBedrockConverse": "bedrock",
    "chat-ollama": "ollama",
    "ollama-llm": "ollama",
}
"""Class path, or ``_type`` of models that LangChain does not serialise, to provider.

Others stand for themselves."""
PROVIDER_ALIASES: Mapping[str, Mapping[str, str]] = {"ollama": {"format": "response_schema"}}

TRANSPORT = frozenset(
    {
        # about the call, not about the answer
        "request_timeout", "timeout", "default_request_timeout", "stream_chunk_timeout",
        "max_retries", "max_concurrent_requests", "rate_limiter", "keep_alive",
        "streaming", "stream", "stream_usage", "disable_streaming", "validate_base_url",
        "validate_model_on_init", "include_response_headers",
        # connections and credentials
        "http_client", "http_async_client", "http_socket_options", "client", "async_client",
        "root_client", "root_async_client", "bedrock_client",
        "client_kwargs", "async_client_kwargs", "sync_client_kwargs",
        "openai_proxy", "anthropic_proxy", "groq_proxy",
        "default_headers", "extra_headers", "additional_headers", "default_metadata",
        "api_key", "credentials", "credentials_profile_name", "aws_access_key_id",
        "aws_secret_access_key", "aws_session_token", "bedrock_api_key", "azure_ad_token",
        "azure_ad_token_provider", "azure_ad_async_token_provider", "openai_api_type",
        # of the framework
        "cache", "callbacks", "callback_manager", "verbose", "tags", "metadata",
        "custom_get_token_ids", "tiktoken_model_name", "ls_structured_output_format",
        "structured_output_format", "provider_stop_reason_key_map",
        "provider_stop_sequence_key_name_map", "supports_tool_choice_values",
    }
)  # fmt: skip
"""Fields that no answer depends on."""

PROVIDER_TRANSPORT: Mapping[str, frozenset[str]] = {"bedrock": frozenset({"config"})}
"""Fields that no answer of one provider depends on; elsewhere the name may mean something."""

UNNAMED_MODELS = frozenset({"chat-ollama", "ollama-llm"})
"""``_type`` of models whose ``llm_string`` holds none of their settings, not even the model."""

SMALLEST_TEMPERATURE = 1e-6
"""Below it a temperature means 0: ChatGroq turns 0 into 1e-8."""
